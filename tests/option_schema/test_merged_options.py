"""Every option file of this project, merged with what it extends, holds the options that its digest was taken of."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from pdan_plugin.option_schema.option_file import load_option_file, read_option_file

OPTIONS = Path(__file__).parents[2] / 'options'
DIGESTS = Path(__file__).with_name('merged_options.json')
FILES = sorted(str(path.relative_to(OPTIONS)) for path in OPTIONS.rglob('*.yml'))


def test_every_option_file_has_a_digest():
    assert sorted(json.loads(DIGESTS.read_text())) == FILES


@pytest.mark.parametrize('name', FILES)
def test_merged_options_are_the_same(name):
    options = json.dumps(read_option_file(OPTIONS / name), sort_keys=True)
    digest = hashlib.sha256(options.encode()).hexdigest()[:16]
    assert digest == json.loads(DIGESTS.read_text())[name], (
        f'options/{name}, merged, has other options than before: {options}\n'
        f'If that is wanted, write its new digest {digest} into {DIGESTS.name}.'
    )


@pytest.mark.parametrize('name', FILES)
def test_the_text_that_a_run_keeps_needs_no_other_file(name, tmp_path):
    read = load_option_file(OPTIONS / name, ['num_gpu=0'])
    kept = tmp_path / 'kept.yml'
    kept.write_text(read.text, encoding='utf-8')
    assert 'extends' not in yaml.safe_load(read.text)
    assert read_option_file(kept) == read.options


@pytest.mark.parametrize('phase', [1, 2, 3])
def test_the_three_phases_of_the_paper_stay_whole(phase):
    assert len(load_option_file(OPTIONS / f'pdan_phase{phase}.yml').chain) == 1

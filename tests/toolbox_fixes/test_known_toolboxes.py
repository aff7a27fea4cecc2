"""The table of what known toolboxes need is what the probes answer, and spares the probes."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pdan_plugin.toolbox_fixes import FIXES, require_real_toolbox
from pdan_plugin.toolbox_fixes.known_toolboxes import DIGESTS, NEEDED, known_needs, toolbox_digest

REPOSITORY = Path(__file__).parents[2]
# Prepares the toolbox of a fresh process, and prints which fixes were needed and which probes were asked.
PREPARES = """
import json, sys

sys.modules['basicsr'] = None  # kept away until the package is there
import pdan_plugin
del sys.modules['basicsr']
from pdan_plugin import toolbox_fixes
from pdan_plugin.toolbox_fixes import patching

asked = []
published = patching.probe

def recorded(function):
    ask = published(function)
    return lambda *args: [asked.append(function.__name__), ask(*args)][1]

patching.probe = recorded
toolbox_fixes.apply(by_probes=sys.argv[1] == 'by probes')
probed = [fix.name for fix in toolbox_fixes.FIXES if fix.behaves is not None and fix.is_called_for()]
needed = {name: toolbox_fixes.applied()[name] for name in probed}
import basicsr
print(json.dumps({'asked': asked, 'needed': needed, 'toolbox': basicsr.__file__}))
"""


@pytest.fixture
def prepared(tmp_path):
    """prepared(how, site) -> what a process finds whose toolbox is the installed one, or the one in a folder."""

    def run(how, site=None):
        path = [str(site)] if site else []
        done = subprocess.run(
            [sys.executable, '-c', PREPARES, how], cwd=tmp_path, capture_output=True, text=True, timeout=600,
            env=os.environ | {'PYTHONPATH': os.pathsep.join([*path, str(REPOSITORY)]), 'OMP_NUM_THREADS': '1'},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def _copied_toolbox(tmp_path):
    return Path(shutil.copytree(require_real_toolbox(), tmp_path / 'basicsr', ignore=shutil.ignore_patterns('*.pyc')))


def test_every_fix_is_in_the_table():
    assert list(NEEDED) == [each.name for each in FIXES]
    assert sorted(DIGESTS.values()) == [0, 1]


def test_a_fix_without_a_probe_is_needed_by_all():
    assert all(all(NEEDED[each.name]) for each in FIXES if each.behaves is None)


def test_the_installed_toolbox_is_known_and_no_probe_is_asked(prepared):
    needs = known_needs(require_real_toolbox())
    assert needs, 'the installed toolbox is not one of those in the table'
    found = prepared('by the table')
    assert found['asked'] == []
    assert found['needed'] == {name: needs[name] for name in found['needed']}


def test_the_probes_answer_as_the_table(prepared):
    needs = known_needs(require_real_toolbox())
    found = prepared('by probes')
    assert len(found['asked']) > 30
    assert set(found['needed']) == {each.name for each in FIXES if each.behaves is not None}
    assert found['needed'] == {name: needs[name] for name in found['needed']}


@pytest.mark.long  # the installed toolbox is asked in the tests above; this one is downloaded
def test_master_is_known_and_its_probes_answer_as_the_table(prepared, tmp_path):
    """PyPI's new-basicsr is GitHub's master under another name; here it is installed under the toolbox's."""
    command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--retries', '0', '--timeout', '20']
    done = subprocess.run(
        [*command, '--quiet', '--dest', tmp_path, 'new-basicsr==1.0.0'], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f'new-basicsr 1.0.0, which is GitHub master, cannot be downloaded: {done.stderr.strip()[-200:]}')
    site = tmp_path / 'site'
    zipfile.ZipFile(next(tmp_path.glob('new_basicsr-*.whl'))).extractall(site)
    metadata = site / 'basicsr-1.4.2.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Metadata-Version: 2.1\nName: basicsr\nVersion: 1.4.2\n')
    (metadata / 'RECORD').write_text('basicsr/__init__.py,,\n')
    needs = known_needs(site / 'basicsr')
    assert needs
    assert DIGESTS[toolbox_digest(site / 'basicsr')] == 1
    found = prepared('by probes', site)
    assert Path(found['toolbox']).is_relative_to(site)
    assert found['needed'] == {name: needs[name] for name in found['needed']}
    assert prepared('by the table', site)['asked'] == []


def test_the_digest_is_of_what_can_be_imported(tmp_path):
    folder, digest = _copied_toolbox(tmp_path), toolbox_digest(require_real_toolbox())
    assert toolbox_digest(folder) == digest
    (folder / 'version.py').write_text('# another build\n')
    train = folder / 'train.py'
    train.write_bytes(train.read_bytes().replace(b'\n', b'\r\n'))
    tests = folder / 'metrics' / 'test_metrics'  # in a checkout, but in no package
    tests.mkdir()
    (tests / 'test_psnr_ssim.py').write_text('')
    assert toolbox_digest(folder) == digest
    assert known_needs(folder)


@pytest.mark.parametrize('change', ['edited', 'added', 'renamed'])
def test_a_changed_toolbox_is_not_known(tmp_path, change):
    folder = _copied_toolbox(tmp_path)
    if change == 'edited':
        with open(folder / 'train.py', 'a') as file:
            file.write('# mended by hand\n')
    elif change == 'added':
        (folder / 'archs' / 'my_arch.py').write_text('')
    else:
        (folder / 'train.py').rename(folder / 'trainer.py')
    assert not known_needs(folder)

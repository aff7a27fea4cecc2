"""The JSON Schema says of a file what the check says, as far as a schema can."""

from __future__ import annotations

import copy
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)
from small_run import changed, test_options, train_options, without
from warm_processes import run_python

from pdan_plugin.commands.main import main
from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema import sections
from pdan_plugin.option_schema.check import check_options
from pdan_plugin.option_schema.constructors import check_registered, find_registered
from pdan_plugin.option_schema.json_schema import json_schema
from pdan_plugin.option_schema.near_misses import near_miss_pattern
from pdan_plugin.option_schema.option_file import read_option_file
from pdan_plugin.option_schema.option_yaml import parse, read_mapping
from pdan_plugin.option_schema.run_request import read_request
from pdan_plugin.option_schema.schema_reference import SHIPPED, with_reference, without_reference
from pdan_plugin.option_schema.spelling import misspelt
from pdan_plugin.option_schema.validation import check_values
from pdan_plugin.option_schema.whole_numbers import with_whole_numbers

REPOSITORY = Path(__file__).parents[2]
OPTIONS = REPOSITORY / 'options'
FILES = sorted(OPTIONS.rglob('*.yml'))
SAMPLES: list[Any] = [
    True, False, 0, 1, 2, -1, 16, 0.5, 1.5, 5e3, 100, 101, 256, '1', '1e-4', 'auto', 'x', '', 'fp32', 'cpu', 'nccl',
    'bicubic', [], [1], [0.5, 0.9], [1, 50], [1, 50, 60], ['a'], ['a', 1], ['bicubic'], ['nearest'], {}, {'a': 1},
]  # fmt: skip


@pytest.fixture(scope='module')
def schema() -> dict[str, Any]:
    return json_schema()


@pytest.fixture(scope='module')
def validator(schema) -> jsonschema.Draft7Validator:
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def places(validator: jsonschema.Draft7Validator, options: Any) -> list[str]:
    """The dotted places of all errors."""
    return ['.'.join(map(str, error.absolute_path)) for error in validator.iter_errors(options)]


def definition(validator: jsonschema.Draft7Validator, name: str) -> jsonschema.Draft7Validator:
    """A validator of one definition."""
    definitions = validator.schema['definitions']
    return jsonschema.Draft7Validator({'allOf': [{'$ref': f'#/definitions/{name}'}], 'definitions': definitions})


class TestShipped:
    @pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(OPTIONS)))
    def test_every_option_file_is_valid_as_written_and_merged(self, validator, path):
        """Also as PyYAML and other YAML 1.1 readers read it, for which 1e-4 is a text."""
        _, written, _ = read_mapping(path)
        for options in (written, yaml.safe_load(path.read_text(encoding='utf-8')), read_option_file(path)):
            assert places(validator, options) == []

    @pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(OPTIONS)))
    def test_the_first_line_of_every_option_file_finds_the_schema(self, path):
        first, _, rest = path.read_text(encoding='utf-8').partition('\n')
        target = first.removeprefix('# yaml-language-server: $schema=')
        assert (path.parent / target).resolve() == SHIPPED
        assert 'yaml-language-server' not in rest

    def test_the_schema_in_the_package_is_that_of_the_code(self, tmp_path):
        """After a change: basicsr options --schema > pdan_plugin/option_schema/options.schema.json

        In a process of its own: other tests register networks and models.
        """
        done = run_python('-m', 'pdan_plugin', 'options', '--schema', cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        schema = json.loads(done.stdout)
        shipped = json.loads(SHIPPED.read_text(encoding='utf-8'))
        if shipped['$comment'] == schema['$comment']:
            assert shipped == schema
            assert SHIPPED.read_text(encoding='utf-8') == done.stdout  # in the same order: a set has none
        else:  # another torch has other optimizers, another BasicSR other networks
            for name in ('keys', 'keys of train', 'keys of val', 'keys of a data set', 'degradation', 'logger'):
                assert shipped['definitions'][name] == schema['definitions'][name]

    def test_the_command_prints_it(self, schema):
        output = io.StringIO()
        with redirect_stdout(output):
            assert main(['options', '--schema']) == 0
        assert json.loads(output.getvalue()) == schema


class TestReference:
    def test_a_line_is_put_first_and_replaced(self, tmp_path):
        text = '# A file.\nname: x\n'
        named = with_reference(text, 'a.json')
        assert named == '# yaml-language-server: $schema=a.json\n# A file.\nname: x\n'
        assert with_reference(named, 'https://host/b.json').startswith('# yaml-language-server: $schema=https://host')
        assert with_reference(named, 'b.json').count('yaml-language-server') == 1
        assert without_reference(named) == text == without_reference(text)
        assert with_reference(text, tmp_path / 'ä b.json').startswith(
            f'# yaml-language-server: $schema={(tmp_path / "ä b.json").as_uri()}\n'
        )

    def test_a_run_s_copy_has_no_reference_that_leads_nowhere(self):
        kept = read_request(str(OPTIONS / 'pdan_phase1.yml'), command='basicsr train').kept_file()
        assert 'yaml-language-server' not in kept
        assert '# PDAN, phase 1 of 3' in kept

    def test_it_is_a_comment_of_the_file(self):
        assert parse(with_reference('name: x\n', SHIPPED), 'x') == {'name': 'x'}


def test_whole_files_are_valid(validator):
    assert places(validator, train_options()) == []
    assert places(validator, test_options()) == []


WRONG = [
    ('modle_type', 'SRModel'), ('model_type', 'SRModle'), ('train.ema_decy', 0.9), ('train.nothing', 1),
    ('train.total_iter', '1000'), ('train.total_iter', 10.5), ('train.total_iter', 0), ('train.total_iter', None),
    ('train.ema_decay', 1.5), ('train.optim_g.lr', '1e-4'), ('train.optim_g.lr', -1), ('train.optim_g.type', 'Adm'),
    ('train.optim_g.type', 'SGD'), ('train.optim_g.beta', [0.9, 0.99]), ('train.optim_g.betas', 0.9),
    ('train.optim_g.betas', [0.9]), ('train.scheduler.type', 'MultistepLR'), ('train.scheduler.milestone', [2]),
    ('train.scheduler.type', 'ReduceLROnPlateau'), ('train.scheduler.milestones', 'never'),
    ('train.pixel_opt.type', 'L1Los'), ('train.pixel_opt.loss_weight', 'high'), ('train.pixel_opt.los_weight', 1.0),
    ('train.fft_opt', {'type': 'L1Loss'}), ('train.gan_opt', {'type': 'GANLoss'}), ('train.precision', 'bf16'),
    ('network_d', {'type': 'UNetDiscriminatorSN'}), ('network_g', 'EDSR'), ('network_g.type', 'EDRS'),
    ('network_g.num_feats', 8), ('network_g.num_feat', '8'), ('network_g.type', None),
    ('datasets', []), ('datasets.vall', {}), ('datasets.train_2', {}), ('datasets.test', {}),
    ('datasets.train.use_hfilp', True), ('datasets.train.use_hflip', 'yes'), ('datasets.train.task', 'SR'),
    ('datasets.train.batch_size_per_gpu', 0), ('datasets.train.prefetch_mode', 'gpu'),
    ('datasets.train.io_backend', {'type': 'lmbd'}), ('datasets.train.io_backend.typ', 'disk'),
    ('datasets.val.type', 'PairedImageDatset'), ('path.pretrain_netwrok_g', 'x.pth'), ('path.strict_load_g', 'no'),
    ('path.pretrain_network_g', 3), ('val.save_imgs', True), ('val.save_img', 1), ('val.metrics.psnr.crop_boder', 4),
    ('val.metrics.psnr.better', 'bigger'), ('val.metrics.psnr.type', 'calculate_pnsr'), ('logger.print_frq', 1),
    ('logger.wandb.projct', 'x'), ('dist_params.bakend', 'gloo'), ('num_gpu', 'all'), ('plugins', 'hat'), ('name', 3),
    ('without', ['train']),
]  # fmt: skip


@pytest.mark.parametrize(('key', 'value'), WRONG)
def test_what_strict_rejects_is_an_error_in_its_place(validator, key, value):
    options = changed(train_options(), key, value)
    section = key.rpartition('.')[0]
    assert any(place in (key, section) or place.startswith(f'{key}.') for place in places(validator, options))
    if key != 'without':
        with pytest.raises(RequestError, match=key.replace('.', r'\.')):
            check_options(options, 'x', is_train=True, strict=True)


@pytest.mark.parametrize(
    'key',
    ['name', 'model_type', 'num_gpu', 'network_g', 'network_g.type', 'network_g.num_in_ch', 'datasets',
     'datasets.train', 'datasets.train.type', 'datasets.train.gt_size', 'datasets.train.dataroot_lq', 'path', 'train',
     'datasets.train.batch_size_per_gpu', 'train.total_iter', 'train.optim_g', 'train.optim_g.lr', 'train.scheduler',
     'train.scheduler.milestones', 'val.val_freq', 'val.save_img', 'logger', 'logger.print_freq',
     'val.metrics.psnr.crop_border', 'val.metrics.psnr.type'],
)  # fmt: skip
def test_a_missing_key_is_an_error_unless_it_may_be_inherited(validator, key):
    options = without(train_options(), key)
    assert places(validator, options)
    assert places(validator, {'extends': 'base.yml', **options}) == []


def test_a_test_file_needs_val(validator):
    assert places(validator, without(test_options(), 'val'))
    assert places(validator, without(test_options(), 'val.save_img'))
    assert places(validator, {**test_options(), 'datasets': {}})


def test_a_file_that_extends_another_has_its_spelling_checked(validator):
    """Its model is not known here: only near-misspellings are errors."""
    inherited = {'extends': 'base.yml', 'without': ['val.tile'], 'name': 'mine'}
    good = {'train': {'ema_decay': 0.9, 'of_a_plugin': 1, 'my_opt': {'kind': 1}}, 'network_g': {'num_feat': 32}}
    assert places(validator, inherited | good | {'network_x': None, 'of_a_plugin': 1}) == []
    assert places(validator, inherited | {'train': {'ema_deacy': 0.9}}) == ['train']
    assert places(validator, inherited | {'trian': {}}) == ['']
    assert places(validator, inherited | {'train': {'ema_decay': '0.9'}}) == ['train.ema_decay']
    assert places(validator, inherited | {'datasets': {'val': {'gt_szie': 8}}}) == ['datasets.val']
    assert places(validator, inherited | {'extends': ['a.yml', 'b.yml']}) == ['extends']


@pytest.mark.parametrize(
    'key',
    ['network_d', 'train.gan_opt', 'train.optim_d', 'train.ema_decay', 'train.scheduler.gamma', 'val.metrics.psnr',
     'datasets.val', 'network_g.num_block', 'manual_seed', 'logger.wandb', 'val', 'path.strict_load_g'],
)  # fmt: skip
def test_a_null_is_no_value(validator, key):
    assert places(validator, {'extends': 'x.yml', **changed(train_options(), key, None)}) == []


@pytest.mark.parametrize(
    ('text', 'is_valid'),
    [('1e-4', True), ('1.0e-4', True), ('1E-4', True), ('.5', True), ('5e3', True), ('!!float 1e-4', True),
     ('"1e-4"', False), ('!!str 1e-4', False), ('1e-4s', False), ('1e', False), ('[1e-4]', False), ('true', False)],
)  # fmt: skip
def test_numbers_as_the_option_file_reads_them(validator, text, is_valid):
    learning_rate = parse(f'lr: {text}', 'x')['lr']
    options = changed(train_options(), 'train.optim_g.lr', learning_rate)
    assert (places(validator, options) == []) == is_valid
    try:
        check_options(options, 'x', is_train=True)
        assert is_valid
    except RequestError:
        assert not is_valid


@pytest.mark.parametrize(('text', 'is_valid'), [('1e3', True), ('1000.0', True), ('1e-3', False), ("'1000'", False)])
def test_whole_numbers_as_the_option_file_reads_them(validator, text, is_valid):
    options = changed(train_options(), 'train.total_iter', parse(text, 'x'))
    assert (places(validator, options) == []) == is_valid


@pytest.mark.parametrize(
    ('name', 'section'),
    [('keys', sections.Top), ('keys of train', sections.Train), ('keys of val', sections.Val),
     ('keys of path', sections.Paths), ('keys of a data set', sections.DataSet), ('degradation', sections.Degradation),
     ('logger', sections.Logger), ('dist_params', sections.Distributed)],
)  # fmt: skip
def test_each_value_of_a_section_is_judged_as_by_the_check(validator, name, section):
    """A section inside a section is looked at only by the definitions of its own."""
    properties = validator.schema['definitions'][name]['properties']
    assert set(section.model_fields) <= set(properties)
    for key, field in section.model_fields.items():
        assert field.description in properties[key].get('description', field.description)
        judge = validator.evolve(schema=properties[key])
        for value in SAMPLES:
            if key == 'wandb' and value == {'a': 1}:
                continue
            found = [problem for problem in check_values(section, {key: value}, '', due=False) if problem.key]
            assert judge.is_valid(value) == (not found), (key, value)


@pytest.mark.parametrize(
    ('name', 'registry', 'kind', 'provided'),
    [('network', ARCH_REGISTRY, 'arch', ()), ('loss', LOSS_REGISTRY, 'loss', ()),
     ('metric', METRIC_REGISTRY, 'metric', ('img', 'img2'))],
)  # fmt: skip
def test_each_keyword_is_judged_as_by_the_check(validator, name, registry, kind, provided):
    judge = definition(validator, name)
    for branch in validator.schema['definitions'][name]['allOf']:
        registered, keys = branch['if']['properties']['type']['enum'][0], branch['then']['properties']
        target = find_registered(registry, registered)
        assert target is not None
        for key in keys:
            for value in SAMPLES if key not in ('type', 'better') else ():
                written = {'type': registered, key: value}
                read = {'type': registered, **with_whole_numbers(target, {key: value})}
                problems = check_registered(registry, kind, read, 'x', provided=provided, extra=('better',))
                found = [problem for problem in problems if problem.key == f'x.{key}']
                assert judge.is_valid(written) == (not found), (registered, key, value)


def test_near_misses_are_those_of_the_check():
    words = ['ema_decay', 'scale', 'optim_g', 'lr', 'name', 'gt_size', 'tf32', 'num_worker_per_gpu', 'SRModel']
    pattern = near_miss_pattern(words)
    judge = jsonschema.Draft7Validator({'not': {'pattern': pattern}})
    for wrong in ('ema_deacy', 'ema_decy', 'ema_decayy', 'ema_bdecay', 'scele', 'scael', 'optm_g', 'opitm_g', 'nmae'):
        assert not judge.is_valid(wrong), wrong
        assert misspelt(wrong, words), wrong
    for other in ('optim_d', 'gt_size2', 'task', 'tf16', 'scaling', 'lt', 'game', 'x', 'ema', 'SRGANModel'):
        assert judge.is_valid(other), other
    letters = 'abcxyz_'
    for word in words:
        for place in range(len(word)):
            for form in (
                word[:place] + word[place + 1 :],
                *(word[:place] + letter + word[place:] for letter in letters),
                *(word[:place] + letter + word[place + 1 :] for letter in letters),
            ):
                if form not in words and not judge.is_valid(form):
                    assert misspelt(form, words), (word, form)


class OtherModel(SRModel):
    """Another project's model."""

    def init_training_settings(self):
        self.strength = self.opt['train'].get('strength')


class OtherNetwork(torch.nn.Module):
    def __init__(self, depth: int = 4, **kwargs):
        super().__init__()
        self.rest = dict(kwargs)


class StrictNetwork(torch.nn.Module):
    def __init__(self, depth: int = 4):
        super().__init__()


class OtherData:
    def __init__(self, opt):
        self.root = opt['root']


def test_what_other_projects_read_passes(monkeypatch, validator):
    files = [
        {**train_options(), 'model_type': 'OtherModel', 'network_g': {'type': 'OtherNetwork', 'any': 1}, 'anything': 1}
    ]
    files[0]['train'] |= {'strength': 1, 'edge_opt': {'kind': 'sobel'}, 'warm': 1}
    files[0]['val'] |= {'chop': True}
    files[0]['datasets']['train'] |= {'type': 'OtherData', 'root': 'x', 'io_backend': {'type': 'theirs'}}
    files.append(without(files[0], 'model_type') | {'extends': 'x.yml'})
    assert [places(validator, each) for each in files] == [[], []]  # also before the plugin is loaded
    for registry, owner in (
        (MODEL_REGISTRY, OtherModel),
        (ARCH_REGISTRY, OtherNetwork),
        (ARCH_REGISTRY, StrictNetwork),
        (DATASET_REGISTRY, OtherData),
    ):
        monkeypatch.setitem(registry._obj_map, owner.__name__, owner)
    loaded = jsonschema.Draft7Validator(json_schema())
    assert [places(loaded, each) for each in files] == [[], []]
    assert places(loaded, changed(files[0], 'train.ema_decay', 'x')) == ['train.ema_decay']
    assert places(loaded, changed(files[0], 'network_g.depth', 'x')) == ['network_g.depth']
    strict = {**files[0], 'network_g': {'type': 'StrictNetwork', 'any': 1}}
    assert places(loaded, strict) == ['network_g']
    names = copy.deepcopy(loaded.schema['definitions']['network']['properties']['type'])
    assert 'OtherNetwork' in names['anyOf'][0]['enum']

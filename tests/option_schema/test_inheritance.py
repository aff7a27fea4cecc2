"""`extends:` and `without:`: what a merged option file holds, which file a message names, and what is rejected."""

import os
import re
from pathlib import Path

import pytest
from small_run import train_options, write_options

from pdan_plugin.commands import main as cli
from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.check import check_options
from pdan_plugin.option_schema.option_file import load_option_file, read_option_file

BASE = """
name: base
scale: 4
datasets:
  train: {sources: [{dataroot_gt: a}, {dataroot_gt: b}], gt_size: 64}
  val_2: {name: second, type: D}
network_g: {type: RCAN, num_feat: 64, num_group: 10}
path: {pretrain_network_g: ~, param_key_g: params_ema}
train:
  deblur_opt: {type: L1Loss}
  optim_g: {type: Adam, lr: 1e-4, betas: [0.9, 0.999]}
  total_iter: 100
val: {}
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """files(NAME=TEXT, ...) -> writes NAME.yml into the working folder; base.yml is there."""
    monkeypatch.chdir(tmp_path)

    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f'{name}.yml').write_text(text, encoding='utf-8')
        return tmp_path

    write(base=BASE)
    return write


def refusal(path, overrides=()):
    with pytest.raises(RequestError) as refused:
        read_option_file(path, overrides)
    return str(refused.value)


def test_sections_merge_key_by_key_and_all_else_replaces(files):
    files(
        my='extends: base.yml\nname: my\n'
        'datasets: {train: {sources: [{dataroot_gt: c}]}, val: {name: v}}\n'
        'train: {optim_g: {lr: 2e-4, betas: [0.9, 0.99]}, ema_decay: 0.9}\n'
        'val: {tile: auto}\n'
    )
    assert read_option_file('my.yml') == {
        'name': 'my',
        'scale': 4,
        'datasets': {
            'train': {'sources': [{'dataroot_gt': 'c'}], 'gt_size': 64},
            'val_2': {'name': 'second', 'type': 'D'},
            'val': {'name': 'v'},
        },
        'network_g': {'type': 'RCAN', 'num_feat': 64, 'num_group': 10},
        'path': {'pretrain_network_g': None, 'param_key_g': 'params_ema'},
        'train': {
            'deblur_opt': {'type': 'L1Loss'},
            'optim_g': {'type': 'Adam', 'lr': 2e-4, 'betas': [0.9, 0.99]},
            'total_iter': 100,
            'ema_decay': 0.9,
        },
        'val': {'tile': 'auto'},
    }


def test_null_takes_a_section_out_and_is_a_value_elsewhere(files):
    files(
        my='extends: base.yml\ndatasets: {val_2: ~}\ntrain: {deblur_opt: ~, total_iter: ~, dual_opt: ~}\n'
        'path: {param_key_g: ~, pretrain_network_g: {}}\n'
    )
    options = read_option_file('my.yml')
    assert list(options['datasets']) == ['train']
    assert list(options['train']) == ['optim_g', 'total_iter', 'dual_opt']
    assert options['train']['total_iter'] is options['train']['dual_opt'] is None
    # of weights, null says that the file has no keys; the key absent says `params`
    assert options['path'] == {'param_key_g': None, 'pretrain_network_g': {}}


def test_without_takes_keys_and_sections_out_before_the_file_is_laid_over(files):
    files(
        my='extends: base.yml\nwithout: [network_g, train.optim_g.betas, path.param_key_g]\n'
        'network_g: {type: EDSR, num_block: 8}\n',
        on_it='extends: my.yml\nwithout: [network_g.num_block]\npath: {param_key_g: params}\n',
    )
    options = read_option_file('my.yml')
    assert options['network_g'] == {'type': 'EDSR', 'num_block': 8}
    assert options['train']['optim_g'] == {'type': 'Adam', 'lr': 1e-4}
    assert options['path'] == {'pretrain_network_g': None}
    options = read_option_file('on_it.yml')
    assert options['network_g'] == {'type': 'EDSR'}
    assert options['path'] == {'pretrain_network_g': None, 'param_key_g': 'params'}


def test_several_levels_from_the_folder_of_the_file_that_names_them(files, monkeypatch):
    folder = files(home='extends: rows/mid.yml\nname: home\n')
    (folder / 'rows' / 'deep').mkdir(parents=True)
    (folder / 'rows/mid.yml').write_text('extends: ../base.yml\nname: mid\nscale: 2\n')
    (folder / 'rows/deep/my.yml').write_text('extends: ../mid.yml\ntrain: {total_iter: 7}\n')
    read = load_option_file('rows/deep/my.yml', ['train:total_iter=8'])
    assert (read.options['name'], read.options['scale'], read.options['train']['total_iter']) == ('mid', 2, 8)
    assert [str(file.path) for file in read.chain] == ['rows/deep/my.yml', 'rows/mid.yml', 'base.yml']
    monkeypatch.setenv('HOME', str(folder))
    for given in ('~/home.yml', str(folder / 'home.yml')):
        (folder / 'rows/deep/my.yml').write_text(f'extends: {given}\n')
        assert read_option_file('rows/deep/my.yml')['name'] == 'home'


def test_a_linked_folder_is_left_by_its_own_parent(files):
    """`..` of a link is the parent of the folder that it points to, as everywhere in the file system."""
    folder = files()
    (folder / 'elsewhere/rows').mkdir(parents=True)
    (folder / 'elsewhere/base.yml').write_text('name: elsewhere\n')
    (folder / 'elsewhere/rows/my.yml').write_text('extends: ../base.yml\n')
    os.symlink(folder / 'elsewhere/rows', folder / 'rows')
    assert read_option_file('rows/my.yml') == {'name': 'elsewhere'}


def test_nothing_is_shared_between_sections_of_a_merged_file(files):
    files(
        base='val: &v {io: {type: lmdb}}\nval_2: *v\nval_3: {<<: *v, name: third}\n',
        my='extends: base.yml\nval: {a: 1}',
    )
    options = read_option_file('my.yml')
    options['val']['io']['type'] = 'disk'
    assert options['val_2'] == {'io': {'type': 'lmdb'}}
    assert options['val_3'] == {'io': {'type': 'lmdb'}, 'name': 'third'}


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('extends: bsae.yml', "my.yml: extends: bsae.yml: there is no file bsae.yml (relative to the folder of "
                              "my.yml); did you mean 'base.yml'?"),
        ('extends: /nowhere/base.yml', 'my.yml: extends: /nowhere/base.yml: there is no file /nowhere/base.yml'),
        ('extends: .', '. (my.yml extends it): cannot read the option file (Is a directory)'),
        ('extends: my.yml', 'my.yml: extends: my.yml: the files extend each other in a circle: my.yml -> my.yml'),
        ('extends: on_my.yml', 'on_my.yml: extends: my.yml: the files extend each other in a circle: my.yml -> '
                               'on_my.yml -> my.yml'),
        ('extends:', 'my.yml: extends: found nothing; expected the path of one option file'),
        ('extends: [base.yml, other.yml]', "my.yml: extends: found ['base.yml', 'other.yml']; expected the path of one "
                                           'option file; a file extends one other file'),
        ('train: {optim_g: {extends: base.yml}}', 'my.yml: train.optim_g.extends: only a whole file can extend '
                                                  'another one; write `extends: FILE` at the top level'),
        ('extends: nested.yml', 'nested.yml (my.yml extends it): datasets.train.sources.0.extends: only a whole file'),
        ('extend: base.yml', "my.yml: unknown key 'extend'; did you mean 'extends'?"),
        ('extends: broken.yml', 'broken.yml (my.yml extends it): not readable as YAML'),
        ('extends: list.yml', 'list.yml (my.yml extends it): expected a mapping of options at the top, found list'),
        ('extends: base.yml\ntrain: [1]', 'my.yml: train: found [1]; expected a section of keys, as in base.yml, which '
                                          'it extends. To remove the section, write `train: ~`'),
        ('extends: base.yml\nval: 3', 'my.yml: val: found 3; expected a section of keys, as in base.yml'),
        ('extends: base.yml\ntrain: {optim_g: {betas: {first: 0.9}}}',
         'my.yml: train.optim_g.betas: found a section of keys; base.yml, which it extends, has a list here. If you '
         'want a section, remove the inherited value: `without: [train.optim_g.betas]`'),
        ('extends: base.yml\nscale: {x: 4}', 'my.yml: scale: found a section of keys; base.yml, which it extends, has '
                                             'the value 4 here'),
        ('without: [name]', 'my.yml: without: removes keys of the file that is extended, but extends: is missing'),
        ('extends: base.yml\nwithout: name', "my.yml: without: found 'name'; expected a list of inherited keys"),
        ('extends: base.yml\nwithout: [train:optim_g:beta]', "my.yml: without: there is no key 'train:optim_g:beta' in "
                                                             "base.yml, which it extends; did you mean 'train.optim_g"),
        ('extends: base.yml\nwithout: [name.x]', "there is no key 'name.x' in base.yml"),
        ('extends: base.yml\nwithout: [train, train]', "there is no key 'train' in base.yml"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_rejected_with_the_files(files, text, said):
    files(
        my=text,
        on_my='extends: my.yml\n',
        broken='a: [1',
        list='- a',
        nested='datasets: {train: {sources: [{extends: base.yml}]}}',
    )
    assert said in refusal('my.yml')


def test_the_command_line_cannot_change_what_a_file_extends(files):
    for entry in ('extends=base.yml', 'without=[name]', 'train:extends=base.yml'):
        assert f'--force_yml {entry!r}: extends and without can be set only in the file base.yml itself' in refusal(
            'base.yml', [entry]
        )


@pytest.fixture
def run_files(tmp_path, monkeypatch):
    """base.yml, a training that passes the check but for its data; my(TEXT) -> the errors of `basicsr check`."""
    monkeypatch.chdir(tmp_path)
    write_options(tmp_path, train_options(), 'base.yml')
    return tmp_path


def checked(capsys, text, *overrides):
    with open('my.yml', 'w') as file:
        file.write(text)
    flags = ['--force_yml', *overrides] if overrides else []
    assert cli.main(['check', '-opt', 'my.yml', *flags]) == 2
    return capsys.readouterr().err


def test_the_check_names_the_file_that_a_wrong_key_stands_in(run_files, capsys):
    base = run_files / 'base.yml'
    base.write_text(base.read_text().replace('ema_decay:', 'ema_decy:') + 'find_unused_parameters: 3\n')
    said = checked(
        capsys,
        'extends: base.yml\nwithout: [network_g.type, name]\ntrain: {optim_g: {betta: [0.9, 0.99]}}\n'
        'val: {metrics: {psnr: {crop_boder: 4}}}\n',
        'logger:print_freq=0',
    )
    assert 'base.yml (my.yml extends it): train.ema_decy: unknown key' in said
    assert 'base.yml (my.yml extends it): find_unused_parameters: found 3' in said
    assert '\nmy.yml: train.optim_g.betta: ' in said
    assert '\nmy.yml: val.metrics.psnr.crop_boder: ' in said
    assert '\nmy.yml: logger.print_freq: found 0' in said  # it was set on the command line
    assert '\nmy.yml: name: missing' in said
    assert 'network_g.type: ' in said


def test_a_section_that_only_the_base_has_is_named_by_the_base(run_files, capsys):
    said = checked(capsys, 'extends: base.yml\nwithout: [logger.print_freq]\nnum_gpu: 0\n')
    assert 'base.yml (my.yml extends it): logger.print_freq: missing; it must be given' in said


def test_the_example_of_the_documentation_is_a_right_option_file(tmp_path, monkeypatch):
    root = Path(__file__).parents[2]
    (example,) = re.findall(r'```yaml\n(.*?)```', (root / 'docs/extends.md').read_text(), re.DOTALL)
    (tmp_path / 'my_edsr.yml').write_text(example)
    (tmp_path / 'options').symlink_to(root / 'options')
    monkeypatch.chdir(tmp_path)
    read = load_option_file('my_edsr.yml')
    check_options(read.options, 'my_edsr.yml', is_train=True, place=read.place)
    assert read.options['train']['optim_g'] == {'type': 'Adam', 'lr': 2e-4, 'betas': [0.9, 0.999], 'weight_decay': 0}

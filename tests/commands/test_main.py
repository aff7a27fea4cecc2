"""The `basicsr` command: what it answers, its exit status, and that a refused request leaves nothing behind."""

import os
import shlex
import subprocess
import sys

import cv2
import pytest
from basicsr.utils import options as toolbox_options
from child_processes import PYTHON_PATH
from small_run import changed, command, test_options, train_options, without, working_folder, write_options

from pdan_plugin.commands import checked_request, name_clash, pipeline
from pdan_plugin.commands import main as cli
from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes import options as options_fix


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    return working_folder(tmp_path, monkeypatch)


def inside(folder):
    return sorted(path.name for path in folder.iterdir())


REQUESTS = [
    # an unknown key, a value of the wrong type, a keyword the loss does not take, a scale against the network's,
    # a name nothing registered: what the option file may get wrong
    ('train:ema_decy=0.999', 'train.ema_decy', "'ema_decay'"),
    ('datasets:train:use_hfilp=true', 'datasets.train.use_hfilp', "'use_hflip'"),
    ('train:optim_g:lr="1e-4"', 'train.optim_g.lr', 'write it without quotes: 0.0001'),
    ('train:total_iter=many', 'train.total_iter', 'a whole number'),
    ('train:pixel_opt:los_weight=2', 'train.pixel_opt.los_weight', "'loss_weight'"),
    ('scale=2', 'scale', 'set scale: 4'),
    ('network_g:type=EDRS', 'network_g.type', "'EDSR'"),
    ('datasets:train:dataroot_lq=nowhere', 'datasets.train.dataroot_lq', 'does not exist'),
    ('datasets:train:batch_size_per_gpu=100', 'batch_size_per_gpu', 'dataset_enlarge_ratio to'),
    ('trian:ema_decay=0.9', "'trian'", "'train'"),
]


@pytest.mark.parametrize(('override', 'key', 'told'), REQUESTS)
@pytest.mark.parametrize('verb', ['train', 'check'])
def test_a_wrong_request_ends_with_2_names_the_key_and_leaves_nothing(folder, capsys, verb, override, key, told):
    before = inside(folder)
    assert cli.main([verb, '-opt', 'small.yml', '--force_yml', override]) == 2
    output = capsys.readouterr()
    assert 'small.yml' in output.err
    assert key in output.err
    assert told in output.err
    assert 'Traceback' not in output.err
    assert inside(folder) == before


def test_a_wrong_request_in_the_file_itself(folder, capsys):
    write_options(folder, without(changed(train_options(), 'train.ema_decy', 0.9), 'train.ema_decay'))
    assert cli.main(['train', '-opt', 'small.yml']) == 2
    assert "small.yml: train.ema_decy: unknown key, SRModel does not read it; did you mean 'ema_decay'?" in (
        capsys.readouterr().err
    )


UNREAD = {'print_network': True, 'save_img': False, 'suffix': None}


def test_keys_that_nothing_reads_are_warnings_and_the_run_goes_on(folder, capsys):
    """As in other projects' files: idle keys, a null where a value has a default, one key twice."""
    options = {**train_options(), **UNREAD}
    options['datasets']['train']['task'] = 'SR'
    options['path']['strict_load_g'] = None
    path = write_options(folder, options)
    path.write_text(path.read_text().replace('  resume_state: null\n', '  resume_state: null\n  resume_state: null\n'))
    for verb in ('check', 'train'):
        assert cli.main([verb, '-opt', 'small.yml']) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f'basicsr {verb}: warning: ')]
        assert [line.split(': ')[3] for line in lines] == [
            'resume_state', 'print_network', 'save_img', 'datasets.train.task',
        ]  # fmt: skip
    assert (folder / 'experiments/small/models/net_g_2.pth').is_file()
    before = inside(folder)
    for verb in ('check', 'train'):
        assert cli.main([verb, '-opt', 'small.yml', '--strict']) == 2
        assert '4 problems in the options' in capsys.readouterr().err
    removed = ['print_network=none', 'save_img=NONE', 'datasets:train:task=~']
    assert cli.main(['check', '-opt', 'small.yml', '--force_yml', *removed]) == 0
    assert [line.split(': ')[3] for line in capsys.readouterr().err.splitlines()] == ['resume_state']
    assert inside(folder) == before


def test_check_lists_warnings_beside_what_it_refuses(folder, capsys):
    write_options(folder, changed({**train_options(), **UNREAD}, 'train.ema_decy', 0.9))
    assert cli.main(['check', '-opt', 'small.yml']) == 2
    error = capsys.readouterr().err
    assert 'small.yml: train.ema_decy: unknown key' in error
    assert 'warning: small.yml: print_network: SRModel does not read it' in error


def test_overrides_evaluate_nothing(folder, capsys):
    for value in ("[__import__('os').mkdir('made')]", "__import__('os').mkdir('made')", '!!python/name:os.mkdir'):
        assert cli.main(['train', '-opt', 'small.yml', '--force_yml', f'train:total_iter={value}']) == 2
    assert 'made' not in inside(folder)


def test_numbers_as_yaml_1_2_writes_them_pass(folder, capsys):
    text = (folder / 'small.yml').read_text().replace('lr: 0.0001', 'lr: 1e-4')
    assert 'lr: 1e-4' in text
    (folder / 'small.yml').write_text(text)
    assert cli.main(['check', '-opt', 'small.yml', '--force_yml', 'train:optim_g:lr=2e-4']) == 0


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['train', '-opt', 'absent.yml'], 'absent.yml: cannot read the option file'),
        (['train', '-opt', 'small.yml', '--launcher', 'pytorch'], 'RANK, WORLD_SIZE not set, so torchrun did not'),
        (['train', '-opt', 'small.yml', '--launcher', 'slurm'], 'srun'),
        (['train', '-opt', 'small.yml', '--nproc', '0'], '--nproc 0: expected 1 worker or more'),
        (['train', '-opt', 'small.yml', '--nproc', '2', '--launcher', 'slurm'], 'combined with another launcher'),
        (['train', '-opt', 'small.yml', '--nproc', '8'], '6 images x dataset_enlarge_ratio 1 over 8 rank(s)'),
        (['restore', 'nowhere.png', '-o', 'out', '-w', 'nothing.pth'], 'nowhere.png'),
    ],
)
def test_wrong_arguments_end_with_2(folder, capsys, words, told):
    before = inside(folder)
    assert cli.main(words) == 2
    assert told in capsys.readouterr().err
    assert inside(folder) == before


@pytest.mark.parametrize(
    'words',
    [[], ['trian'], ['train'], ['train', '-opt', 'small.yml', '--autoresume'], ['restore', 'in.png', '-w', 'w.pth']],
)
def test_what_is_no_command_line_ends_with_2(words):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2


def test_only_the_first_rank_of_a_machine_tells_what_its_ranks_find(monkeypatch, capsys):
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('MASTER_ADDR', 'localhost')
    answers = []
    for rank, local_rank in ('00', '11', '10'):  # the last is the first of another machine, which may lack the data
        monkeypatch.setenv('RANK', rank)
        monkeypatch.setenv('LOCAL_RANK', local_rank)
        answers.append((cli.main(['train', '-opt', 'small.yml', '--force_yml', 'scale=2']), capsys.readouterr().err))
    assert [status for status, _ in answers] == [2, 2, 2]
    assert ['set scale: 4' in said for _, said in answers] == [True, False, True]
    assert answers[1][1] == ''


@pytest.mark.parametrize(
    ('error', 'status', 'told', 'has_traceback'),
    [
        (RuntimeError('out of memory'), 1, 'basicsr train: failed while running: RuntimeError: out of memory', True),
        (RequestError('lq/000.png: cut short'), 2, 'basicsr: lq/000.png: cut short', False),
        (KeyboardInterrupt(), 130, 'basicsr train: interrupted', False),
    ],
)
def test_how_a_run_ends_is_told_by_its_status(monkeypatch, capsys, error, status, told, has_traceback):
    def fail(root):
        raise error

    monkeypatch.setattr(pipeline, 'train_pipeline', fail)
    assert cli.main(['train', '-opt', 'small.yml', '--auto_resume']) == status
    assert options_fix._handed is None
    error_text = capsys.readouterr().err
    assert error_text.strip().splitlines()[-1] == told
    assert ('Traceback' in error_text) is has_traceback


def test_the_options_that_were_checked_are_those_that_run(folder, monkeypatch):
    """One object, read once: what is done to the file after the check does not reach the run."""
    seen = {}
    check_options = checked_request.check_options

    def check(opt, path, **further):
        check_options(opt, path, **further)
        seen['checked'] = opt
        (folder / 'small.yml').write_text('name: another\n')

    def run(root):
        seen['run'], arguments = toolbox_options.parse_options(root)
        toolbox_options.copy_opt_file(arguments.opt, str(folder))

    written = (folder / 'small.yml').read_text()
    monkeypatch.setattr(checked_request, 'check_options', check)
    monkeypatch.setattr(pipeline, 'train_pipeline', run)
    monkeypatch.setattr(sys, 'argv', ['a program of its own', 'with words of its own'])
    assert cli.main(['train', '-opt', 'small.yml', '--auto_resume']) == 0
    assert seen['run'] is seen['checked']
    assert seen['run']['auto_resume'] is True
    kept = (folder / 'small.yml').read_text()
    assert kept.endswith(written)
    assert '# CMD: basicsr train -opt small.yml --auto_resume\n' in kept


def test_a_request_refused_in_a_loader_s_worker_is_told_without_its_traceback(folder, capfd):
    (folder / 'lq' / '005.png').write_bytes(b'no picture')
    options = changed(train_options(), 'datasets.train.num_worker_per_gpu', 1)
    write_options(folder, options)
    assert cli.main(['train', '-opt', 'small.yml']) == 2
    error_text = capfd.readouterr().err
    assert '005.png' in error_text
    assert 'Traceback' not in error_text


def test_train_then_test_in_this_process_and_what_to_type_next(folder, capsys):
    assert cli.main(['train', '-opt', 'small.yml']) == 0
    weights = 'experiments/small/models/net_g_latest.pth'
    output = capsys.readouterr().out
    assert (folder / weights).is_file()
    assert f'basicsr test -opt FILE --force_yml path:pretrain_network_g={weights}' in output
    assert f'basicsr restore INPUT -o OUTPUT -w {weights}' in output
    write_options(folder, test_options(), 'test.yml')
    assert cli.main(['test', '-opt', 'test.yml']) == 0
    assert 'Pictures: results/small_test/visualization/' in capsys.readouterr().out
    assert len(list((folder / 'results' / 'small_test' / 'visualization').rglob('*.png'))) == 6
    assert list((folder / 'results' / 'small_test').glob('test_small_test_*.log'))


def test_check_tells_sizes_and_writes_nothing(folder, capsys):
    before = inside(folder)
    assert cli.main(['check', '-opt', 'small.yml']) == 0
    assert 'Next: basicsr train -opt small.yml' in capsys.readouterr().out
    assert inside(folder) == before


def test_check_goes_on_where_an_earlier_phase_is_not_trained_yet(folder, capsys):
    later = changed(train_options(), 'path.pretrain_network_g', 'experiments/phase1/models/net_g_latest.pth')
    write_options(folder, later)
    before = inside(folder)
    assert cli.main(['check', '-opt', 'small.yml']) == 2
    output = capsys.readouterr()
    assert 'parameters' in output.out
    assert 'Next:' not in output.out
    assert 'everything else is in order, but small.yml: path.pretrain_network_g' in output.err
    assert '`basicsr train` with the option file that has name: phase1 creates it' in output.err
    assert cli.main(['check', '-opt', 'small.yml', '--force_yml', 'datasets:train:dataroot_lq=nowhere']) == 2
    assert 'everything else' not in capsys.readouterr().err
    assert cli.main(['train', '-opt', 'small.yml']) == 2
    assert inside(folder) == before


def test_restore_restores_a_picture(folder, capsys):
    network = {'type': 'PDAN', 'num_feat': 16, 'num_group': 1, 'num_block': 1, 'fuse_levels': 0, 'deblur_branch': False}
    options = {**train_options(), 'name': 'small net', 'model_type': 'RestorationModel', 'network_g': network}
    write_options(folder, options)
    assert cli.main(['train', '-opt', 'small.yml']) == 0
    weights = 'experiments/small net/models/net_g_latest.pth'
    output = capsys.readouterr().out
    assert f'basicsr test -opt FILE --force_yml {shlex.quote(f"path:pretrain_network_g={weights}")}' in output
    assert f'basicsr restore INPUT -o OUTPUT -w {shlex.quote(weights)}' in output
    assert cli.main(['restore', 'lq/000.png', '-o', 'restored', '-w', weights, '-opt', 'small.yml']) == 0
    restored = list((folder / 'restored').rglob('*.png'))
    assert len(restored) == 1
    assert cv2.imread(str(restored[0])).shape == (96, 128, 3)


def test_plugins_lists_names_with_their_distribution_and_the_fixes(capsys):
    assert cli.main(['plugins']) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['arch', 'RCAN', 'basicsr.archs.rcan_arch', 'basicsr'] in rows
    assert ['arch', 'PDAN'] in [row[:2] for row in rows]
    assert ['dataset', 'RealESRGANDataset', 'basicsr.data.realesrgan_dataset', 'basicsr'] in rows
    assert ['torchvision_functional_tensor', 'data/degradations.py:8'] in [row[:2] for row in rows]


def test_a_reader_that_has_seen_enough_ends_the_output_quietly(folder):
    """As `basicsr plugins | head -1`; the pipe holds less than the table."""
    process = subprocess.Popen(
        [sys.executable, '-c', 'import sys; from pdan_plugin.commands.main import main; sys.exit(main(["plugins"]))'],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, 'PYTHONPATH': PYTHON_PATH},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait(600) == 141


class TestOtherCommandsOfTheName:
    """Another package that installs a script `basicsr`, and a script of another environment."""

    def test_the_script_is_refused_and_the_module_warns(self, monkeypatch, capsys):
        monkeypatch.setattr(name_clash, 'other_basicsr_commands', lambda: ['other-basicsr'])
        monkeypatch.setattr(sys, 'argv', ['/somewhere/bin/basicsr', 'plugins'])
        assert cli.main(['plugins']) == 2
        output = capsys.readouterr().err
        assert 'other-basicsr also installs a command basicsr' in output
        assert 'python -m pdan_plugin' in output
        monkeypatch.setattr(sys, 'argv', ['/somewhere/pdan_plugin/__main__.py', 'plugins'])
        assert cli.main(['plugins']) == 0
        assert 'warning: other-basicsr also installs' in capsys.readouterr().err

    def test_a_script_of_another_environment_is_told(self, folder):
        script = folder / 'bin' / 'basicsr'
        script.parent.mkdir()
        script.write_text('#!/bin/sh\n')
        script.chmod(0o755)
        words = ['check', '-opt', 'small.yml', '--force_yml', 'scale=2']
        done = command(folder, *words, PATH=f'{script.parent}{os.pathsep}{os.environ["PATH"]}')
        assert done.returncode == 2
        assert f'the command basicsr on PATH is {script}, in another environment' in done.stderr

    def test_a_folder_that_hides_the_toolbox_is_refused_without_a_traceback(self, folder):
        (folder / 'basicsr').mkdir()
        (folder / 'basicsr' / '__init__.py').write_text('')
        done = command(folder, 'train', '-opt', 'small.yml')
        assert done.returncode == 2
        assert str(folder / 'basicsr') in done.stderr
        assert 'Traceback' not in done.stderr


def test_quickstart_in_a_file_is_a_wrong_request(folder, capsys):
    (folder / 'notes.txt').write_text('mine')
    assert cli.main(['quickstart', '--folder', 'notes.txt']) == 2
    assert '--folder notes.txt: is a file; expected a folder' in capsys.readouterr().err

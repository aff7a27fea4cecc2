"""`basicsr options`, and option files of the package by their names."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest
from child_processes import PYTHON_PATH

from pdan_plugin.commands import main as cli
from pdan_plugin.option_schema.option_file import load_option_file, read_option_file
from pdan_plugin.option_schema.shipped_options import find_option_file, shipped_options


def test_the_list_has_every_file_with_a_line_about_it(capsys):
    assert cli.main(['options']) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split(maxsplit=1) for line in lines[: lines.index('')]]
    assert [words[0] for words in listed] == list(shipped_options())
    assert all(len(words) == 2 and not words[1].startswith('#') for words in listed)
    assert ['pdan_phase1', 'PDAN, phase 1 of 3: L1 on REDS, from scratch (paper, section 3.3)'] in listed


@pytest.mark.parametrize('written', ['pdan_phase1', 'pdan_phase1.yml', 'options/pdan_phase1.yml'])
def test_a_complete_file_is_copied_with_its_comments_and_the_schema_of_this_installation(written, capsys):
    assert cli.main(['options', written]) == 0
    first, _, text = capsys.readouterr().out.partition('\n')
    assert text == shipped_options()['pdan_phase1'].read_text(encoding='utf-8').partition('\n')[2]
    place = urlparse(first.removeprefix('# yaml-language-server: $schema='))
    assert place.scheme == 'file'
    assert json.loads(Path(url2pathname(place.path)).read_text(encoding='utf-8'))['type'] == 'object'


@pytest.mark.parametrize('name', shipped_options())
def test_a_copy_says_the_same_and_needs_no_other_file(name, capsys, tmp_path):
    assert cli.main(['options', name]) == 0
    copy = tmp_path / 'copy.yml'
    copy.write_text(capsys.readouterr().out, encoding='utf-8')
    read = load_option_file(copy)
    assert len(read.chain) == 1
    assert read.options == read_option_file(shipped_options()[name])
    assert copy.read_text(encoding='utf-8').startswith('#')


def test_a_copy_is_utf_8_also_where_the_terminal_is_not(tmp_path):
    file = shipped_options()['pdan_phase1']
    command = [sys.executable, '-m', 'pdan_plugin', 'options', 'pdan_phase1']
    environment = {'PATH': '/usr/bin:/bin', 'PYTHONPATH': PYTHON_PATH, 'PYTHONIOENCODING': 'latin-1'}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    assert done.stdout.decode('utf-8').splitlines()[1:] == file.read_text(encoding='utf-8').splitlines()[1:]


def test_an_unknown_name_is_refused_with_the_nearest(capsys):
    assert cli.main(['options', 'pdan_phse1']) == 2
    output = capsys.readouterr()
    assert output.out == ''
    assert 'pdan_phse1: no option file of this name' in output.err
    assert 'did you mean pdan_phase1' in output.err


def test_a_name_is_an_option_file_unless_a_file_has_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = shipped_options()
    assert find_option_file('pdan_phase1') == shipped['pdan_phase1']
    assert find_option_file('quickstart/test') == shipped['quickstart/test']
    assert read_option_file('quickstart/phase2') == read_option_file(shipped['quickstart/phase2'])
    (tmp_path / 'pdan_phase1').write_text('name: mine\n')
    assert read_option_file('pdan_phase1') == {'name': 'mine'}
    assert str(find_option_file('nothing')) == 'nothing'


def test_a_path_of_a_checkout_is_refused_with_the_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['check', '-opt', 'options/pdan_phase1.yml']) == 2
    error = capsys.readouterr().err
    assert 'options/pdan_phase1.yml: cannot read the option file' in error
    assert '-opt pdan_phase1, or `basicsr options pdan_phase1 > my.yml`' in error


def test_own_files_extend_by_name(tmp_path):
    (tmp_path / 'mine.yml').write_text('extends: quickstart/phase2\nname: mine\n')
    assert read_option_file(tmp_path / 'mine.yml') == {**read_option_file('quickstart/phase2'), 'name': 'mine'}
    (tmp_path / 'quickstart').mkdir()
    (tmp_path / 'quickstart/phase2').write_text('scale: 2\n')
    assert read_option_file(tmp_path / 'mine.yml') == {'scale': 2, 'name': 'mine'}


def test_check_by_name_names_the_command_that_makes_the_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['check', '-opt', 'quickstart/phase1']) == 2
    assert '`basicsr quickstart` creates it' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

"""JSON that every reader takes."""

import json
import math
import os

import pytest

from pdan_plugin.files.json_files import json_numbers, json_text, write_json


def refuse(word):
    raise AssertionError(f'{word} is no JSON')


def test_numbers_that_json_does_not_have_become_words_and_come_back():
    values = {'psnr': [math.inf, 1.5, (-math.inf, math.nan)], 'text': 'é', 'none': None, 'flag': True}
    text = json_text(values)
    read = json.loads(text, parse_constant=refuse)
    assert read == {'psnr': ['Infinity', 1.5, ['-Infinity', 'NaN']], 'text': 'é', 'none': None, 'flag': True}
    assert 'é' in text
    assert float(read['psnr'][0]) == math.inf
    back = json_numbers(read)
    assert math.isnan(back['psnr'][2].pop())
    assert back == {'psnr': [math.inf, 1.5, [-math.inf]], 'text': 'é', 'none': None, 'flag': True}


def test_a_file_name_that_is_no_utf8(tmp_path):
    name = os.fsdecode(b'\xe9.png')
    write_json(tmp_path / 'record.json', {'name': name})
    assert json.loads((tmp_path / 'record.json').read_text(encoding='utf-8')) == {'name': name}


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / 'record.json', [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / 'record.json', [object()])
    assert (tmp_path / 'record.json').read_text() == '[\n  1\n]\n'
    assert os.listdir(tmp_path) == ['record.json']

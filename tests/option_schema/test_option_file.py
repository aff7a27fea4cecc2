"""Option files as people write them, and overrides that are read, not run."""

import pytest

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.option_file import load_option_file, read_option_file


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / 'options.yml'
        path.write_text(text, encoding='utf-8')
        return path

    return write


@pytest.mark.parametrize(
    ('text', 'value'),
    [('1e-4', 1e-4), ('1E3', 1000.0), ('-2.5e+3', -2500.0), ('.5', 0.5), ('1.', 1.0), ('!!float 1e-3', 1e-3)],
)
def test_floats_are_floats_in_the_file_and_in_an_override(written, text, value):
    options = read_option_file(written(f'lr: {text}\nother: 0\n'), [f'other={text}'])
    assert options == {'lr': value, 'other': value}
    assert isinstance(options['lr'], float)


def test_what_is_not_a_float_stays_what_it_was(written):
    options = read_option_file(written("a: 1\nb: 001_RCAN\nc: '1e-4'\nd: ~\ne: 1e\nf: +\ng: auto\n"))
    assert options == {'a': 1, 'b': '001_RCAN', 'c': '1e-4', 'd': None, 'e': '1e', 'f': '+', 'g': 'auto'}
    assert isinstance(options['a'], int)


def test_a_key_written_twice_is_refused_with_both_lines(written):
    with pytest.raises(RequestError, match=r"'lr' is written twice \(first on line 2\)(.|\n)*line 4"):
        read_option_file(written('train:\n  lr: 1\n  total_iter: 5\n  lr: 2\n'))


@pytest.mark.parametrize('value', ['~', 'experiments/x.pth', '{type: Adam, lr: 1e-4}', '[1, 2]'])
def test_a_key_written_twice_with_one_value_is_a_warning(written, value):
    text = f'path:\n  resume_state: {value}\n  strict_load_g: true\n  resume_state: {value}\n'
    read = load_option_file(written(text))
    assert list(read.options['path']) == ['resume_state', 'strict_load_g']
    (warning,) = read.repeated()
    assert (warning.key, warning.is_warning) == ('resume_state', True)
    assert 'lines 2 and 4' in warning.text


@pytest.mark.parametrize(('one', 'other'), [('1', 'true'), ('1', '1.0'), ("'1'", '1'), ('~', 'x'), ('[1]', '[1, 2]')])
def test_a_key_written_twice_with_values_of_two_kinds_is_refused(written, one, other):
    with pytest.raises(RequestError, match="'lr' is written twice"):
        read_option_file(written(f'lr: {one}\nlr: {other}\n'))


def test_anchors_are_copies_and_merges_may_repeat_a_key(written):
    options = read_option_file(written('val: &v {name: a, size: 1}\nval_2: *v\nval_3:\n  <<: *v\n  name: b\n'))
    options['val']['phase'] = 'val'
    assert options['val_2'] == {'name': 'a', 'size': 1}
    assert options['val_3'] == {'name': 'b', 'size': 1}


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('a: [1', 'not readable as YAML'),
        ('a: !!python/object/apply:os.system [true]', 'not readable as YAML'),
        ('- a', 'expected a mapping of options at the top, found list'),
        ('', 'found nothing'),
        ('a: &x {b: *x}', 'an anchor contains itself'),
    ],
)
def test_what_is_no_option_file_is_refused(written, text, said):
    path = written(text)
    with pytest.raises(RequestError, match=said) as refused:
        read_option_file(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('a:\n\tb: 1\n', 'write spaces instead'),
        ('a:\t1\nb: 2\n', 'write spaces instead'),
        ('a: 1\nscale:4\nb: 2\n', 'Write a space after the colon: scale: 4'),
        ('a: "data\\gt"\n', 'write / in paths'),
    ],
)
def test_usual_slips_are_told_with_the_remedy(written, text, said):
    with pytest.raises(RequestError, match='not readable as YAML') as refused:
        read_option_file(written(text))
    assert said in str(refused.value).splitlines()[-1]


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-be'])
def test_texts_of_other_systems(tmp_path, encoding):
    """PowerShell redirects into UTF-16 with a mark of its byte order; Windows ends a line with two characters."""
    text = '# 训练\r\nname: réseau\r\n'
    mark = b'\xfe\xff' if encoding == 'utf-16-be' else b''  # Python writes the others' marks itself
    (tmp_path / 'options.yml').write_bytes(mark + text.encode(encoding))
    assert load_option_file(tmp_path / 'options.yml').options == {'name': 'réseau'}


def test_a_file_in_another_encoding_gets_advice(tmp_path):
    (tmp_path / 'options.yml').write_bytes('# 训练\nname: a\n'.encode('gbk'))
    with pytest.raises(RequestError, match=r'options\.yml: is not UTF-8 text .*; save it as UTF-8'):
        read_option_file(tmp_path / 'options.yml')


def test_keys_are_text_in_the_sections_that_the_toolbox_knows(written):
    """YAML reads on, off, yes, no and ~ as no text; a network may have numbers for keys."""
    options = read_option_file(
        written(
            'on: 1\n~: 2\n3: 4\ntrain: {off: 1, 5: 6}\ndatasets: {train: {7: 8}}\nnetwork_g: {channels: {16: 512}}\n'
        )
    )
    assert options == {
        'on': 1,
        '~': 2,
        '3': 4,
        'train': {'off': 1, '5': 6},
        'datasets': {'train': {'7': 8}},
        'network_g': {'channels': {16: 512}},
    }


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RequestError, match=r'nowhere\.yml: cannot read'):
        read_option_file(tmp_path / 'nowhere.yml')


OPTIONS = """
name: small
train: {optim_g: {lr: 1e-4}, total_iter: 5}
datasets: {train: {sources: [{dataroot_gt: a}, {dataroot_gt: b}]}}
"""


def test_overrides_reach_every_depth(written):
    options = read_option_file(
        written(OPTIONS),
        ['train:optim_g:lr=2e-5', 'train:milestones=[1, 2]', 'datasets:train:sources:1:dataroot_gt=a=b',
         'name=None', 'datasets:train:use_hflip=true', 'seed=07'],
    )  # fmt: skip
    assert options['train'] == {'optim_g': {'lr': 2e-5}, 'total_iter': 5, 'milestones': [1, 2]}
    assert options['datasets']['train'] == {
        'sources': [{'dataroot_gt': 'a'}, {'dataroot_gt': 'a=b'}],
        'use_hflip': True,
    }
    assert options['name'] is None


@pytest.mark.parametrize(
    ('text', 'value'),
    [('{}x4', '{}x4'), ('{:08d}_x4', '{:08d}_x4'), ('{0}_lq', '{0}_lq'), ('lq_{}', 'lq_{}'), ("'{}x4'", '{}x4'),
     ('{}', {}), ('{a: 1}', {'a': 1}), ('[{}, {}]', [{}, {}]), ('{type: L1Loss}', {'type': 'L1Loss'})],
)  # fmt: skip
def test_a_template_of_file_names_is_text(written, text, value):
    assert (
        read_option_file(written(OPTIONS), [f'datasets:train:filename_tmpl={text}'])['datasets']['train'][
            'filename_tmpl'
        ]
        == value
    )


def test_overrides_are_not_evaluated(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = '[open("made", "w")]'
    with pytest.raises(RequestError, match='not readable as YAML'):
        read_option_file(written(OPTIONS), [f'train:total_iter={text}'])
    assert not (tmp_path / 'made').exists()
    read_option_file(written(OPTIONS), ['train"]; open("made", "w")#=1'])
    assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize(
    ('entry', 'said'),
    [
        ('trian:total_iter=1', "no 'trian' in the top level .*did you mean 'train'"),
        ('train:optim:lr=1', "no 'optim' in section 'train' .*did you mean 'optim_g'"),
        ('name:x=1', "'name' is the value 'small', not a section"),
        ('datasets:train:sources:2:dataroot_gt=c', 'a list of 2; expected a number from 0 to 1'),
        ('train', 'expected key:sub=value'),
        ('train:=1', 'expected key:sub=value'),
        ('train:total_iter=[1', 'not readable as YAML'),
    ],
)
def test_a_wrong_override_is_named_with_what_would_be_right(written, entry, said):
    with pytest.raises(RequestError, match=said):
        read_option_file(written(OPTIONS), [entry])


def test_keys_joined_by_dots_are_answered_with_the_right_form(tmp_path):
    (tmp_path / 'small.yml').write_text('train: {total_iter: 3}')
    with pytest.raises(RequestError, match=r'train:total_iter=5'):
        read_option_file(tmp_path / 'small.yml', ['train.total_iter=5'])

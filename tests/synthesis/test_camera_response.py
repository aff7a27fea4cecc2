"""The response is its own inverse, what it is called, and tables from files."""

import io

import numpy as np
import pytest

from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis.camera_response import RESPONSES, Response, response


@pytest.fixture
def every_level():
    return np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)


@pytest.mark.parametrize('name', RESPONSES)
def test_every_grey_level_survives_the_round_trip(name, every_level):
    camera = response(name)
    assert np.array_equal(camera.from_linear(camera.to_linear(every_level)), every_level)


@pytest.mark.parametrize('name', RESPONSES)
def test_light_between_two_levels_is_written_as_one_of_them(name):
    camera = response(name)
    middle = (camera.table[:-1] + camera.table[1:]) / 2
    written = camera.from_linear(middle[:, None, :]).astype(int)[:, 0, 0]
    assert (np.abs(written - (np.arange(255) + 0.5)) <= 0.5).all()


def test_light_beyond_the_table_saturates():
    camera = response('srgb')
    assert camera.from_linear(np.full((1, 1, 3), 1.5)).item(0) == 255
    assert camera.from_linear(np.full((1, 1, 3), -0.5)).item(0) == 0
    assert camera.from_linear(np.full((1, 1, 3), np.inf)).tolist() == [[[255] * 3]]
    assert camera.from_linear(np.full((1, 1, 3), -np.inf)).tolist() == [[[0] * 3]]


def test_srgb_is_the_standard_curve():
    # IEC 61966-2-1: code 188 is the grey of half the light (0.5028), code 10 lies on the straight part.
    table = response('srgb').table[:, 0]
    assert table[188] == pytest.approx(0.50289, abs=1e-5)
    assert table[10] == pytest.approx(10 / 255 / 12.92)
    assert response('gamma').table[128, 1] == pytest.approx((128 / 255) ** 2.2)


def test_channels_keep_their_own_tables(every_level):
    table = np.stack([np.linspace(0, top, 256) for top in (1, 2, 4)], axis=1)
    light = Response('unequal', table).to_linear(every_level)
    assert light[15, 15] == pytest.approx([1, 2, 4])
    assert np.array_equal(Response('unequal', table).from_linear(light), every_level)


@pytest.mark.parametrize(
    'table',
    [np.zeros((256, 3)), np.zeros(256), np.full((256, 3), np.nan), 1 + np.linspace(0, 1e-4, 768).reshape(256, 3)],
)
def test_a_table_without_an_inverse_is_refused(table):
    with pytest.raises(RequestError, match='Camera response mine'):
        Response('mine', table)


@pytest.mark.parametrize(
    ('name', 'told'),
    [('rec709', "'rec709' is not known"), ('nowhere/crf.npy', "'nowhere/crf.npy' there is no such file")],
)
def test_an_unknown_name_lists_names_and_forms(name, told):
    with pytest.raises(RequestError) as raised:
        response(name)
    assert told in str(raised.value)
    assert 'linear, srgb, gamma' in str(raised.value)
    assert '(256, 1, 3) in BGR order' in str(raised.value)


def robertson_table():
    """Like REDS's crf.npy: light 1 at level 128, wild above 250, two green levels in the wrong order; (256, 3) RGB."""
    table = np.stack([(np.arange(1, 257) / 129) ** power for power in (2.0, 2.2, 2.4)], axis=1)
    table[252, 0] = table[253, 0]
    table[255] *= 5
    table[[235, 236], 1] = table[[236, 235], 1]
    return table


def saved(tmp_path, table):
    np.save(tmp_path / 'crf.npy', table)
    return str(tmp_path / 'crf.npy')


class TestFiles:
    @pytest.mark.parametrize('shape', [(256,), (256, 1)])
    def test_one_curve_is_for_all_channels(self, tmp_path, shape):
        curve = (np.arange(256) / 255) ** 1.8
        table = response(saved(tmp_path, curve.reshape(shape))).table
        assert np.array_equal(table, np.repeat(curve[:, None], 3, axis=1))

    def test_three_columns_are_rgb(self, tmp_path, every_level):
        table = np.stack([(np.arange(256) / 255) ** power for power in (1.6, 2.0, 2.4)], axis=1)
        camera = response(saved(tmp_path, table.astype(np.float32)))
        assert camera.table == pytest.approx(table, rel=1e-6)
        assert camera.note == ''
        assert np.array_equal(camera.from_linear(camera.to_linear(every_level)), every_level)

    def test_opencvs_form_is_bgr_and_continued_above_250(self, tmp_path, every_level):
        table = robertson_table()
        camera = response(saved(tmp_path, table[:, None, ::-1].astype(np.float32)))
        untouched = np.r_[0:235, 237:251]
        assert camera.table[untouched] == pytest.approx(table[untouched], rel=1e-6)
        slope = (table[251] - table[249]) / 2
        assert camera.table[255] == pytest.approx(table[250] + 5 * slope, rel=1e-6)
        assert 'levels above 250' in camera.note
        assert 'green 235-236' in camera.note
        assert np.array_equal(camera.from_linear(camera.to_linear(every_level)), every_level)

    @pytest.mark.parametrize('kind', ['saturated', 'black', 'noisy', 'steep', 'hardly grows'])
    def test_every_accepted_table_brings_every_level_back(self, tmp_path, every_level, kind):
        curve = 4 * (np.arange(256) / 255) ** 2.2
        if kind == 'saturated':
            curve[249:] = curve[249]
        elif kind == 'black':
            curve[:6] = 0
        elif kind == 'noisy':
            curve *= 1 + 0.02 * np.random.default_rng(3).standard_normal(256)
        elif kind == 'hardly grows':
            curve[200:208] = curve[200] * (1 + 1e-6 * np.arange(8))
        else:
            curve = np.exp(np.linspace(-40, 5, 256))
        camera = response(saved(tmp_path, curve))
        assert (np.diff(camera.table, axis=0) > 0).all()
        assert np.array_equal(response(saved(tmp_path, camera.table)).table, camera.table)
        assert camera.table == pytest.approx(np.repeat(curve[:, None], 3, axis=1), rel=0.08, abs=2e-3)
        assert np.array_equal(camera.from_linear(camera.to_linear(every_level)), every_level)

    @pytest.mark.parametrize(
        ('table', 'told'),
        [
            (np.zeros((256, 4)), r'shape \(256, 4\)'),
            (np.linspace(0, 1, 1024), r'shape \(1024,\)'),
            (np.linspace(-7, 3, 256), r'numpy\.exp'),
            (np.minimum(np.arange(256), 240), 'red levels 240 to 255 does not grow'),
            (np.arange(256)[::-1], 'red levels 0 to 255 does not grow'),
            (np.where(np.arange(256) == 77, np.nan, np.arange(256)), 'red level 77 is not a number'),
            (1 + np.linspace(0, 1e-4, 256), 'red levels 0 to 255 does not grow'),
            (np.array(['a'] * 256), 'table of numbers'),
        ],
    )
    def test_a_table_that_cannot_be_used_says_why(self, tmp_path, table, told):
        with pytest.raises(RequestError, match=told):
            response(saved(tmp_path, table))

    def test_a_file_that_is_no_table_says_so(self, tmp_path):
        whole = io.BytesIO()
        np.save(whole, np.arange(256.0))
        for number, content in enumerate((b'', b'no table', whole.getvalue()[:-100])):
            file = tmp_path / f'{number}.npy'
            file.write_bytes(content)
            with pytest.raises(RequestError, match=r'not a readable \.npy file') as refused:
                response(str(file))
            assert 'pickle' not in str(refused.value)  # NumPy's advice would run what the file holds

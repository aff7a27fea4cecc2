"""The response is its own inverse, and what it is called."""

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


@pytest.mark.parametrize('table', [np.zeros((256, 3)), np.zeros(256), np.full((256, 3), np.nan)])
def test_a_table_without_an_inverse_is_refused(table):
    with pytest.raises(RequestError, match='Camera response mine'):
        Response('mine', table)


def test_unknown_name_lists_the_known():
    with pytest.raises(RequestError, match='linear, srgb, gamma'):
        response('rec709')

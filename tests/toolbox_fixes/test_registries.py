"""Unknown names in a registry."""

import pytest
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY, Registry

from pdan_plugin.errors import RequestError


def test_close_matches_and_the_missing_plugin_are_named(stock, capsys):
    with stock():
        with pytest.raises(KeyError) as published:
            build_network({'type': 'ESDR'})
        assert 'did you mean' not in str(published.value)
        assert 'use name: ESDR_basicsr!' in capsys.readouterr().out
    said = r"^the arch registry has no 'ESDR'; did you mean .*'EDSR'.*plugins:"
    with pytest.raises(RequestError, match=said) as mended:
        build_network({'type': 'ESDR'})
    assert isinstance(mended.value, KeyError)
    assert not capsys.readouterr().out


@pytest.mark.parametrize('name', ['edsr', 'EDSR '])
def test_case_and_blanks(name):
    with pytest.raises(RequestError, match=r"did you mean 'EDSR'"):
        ARCH_REGISTRY.get(name)


def test_a_suffixed_name_is_found_without_a_word(capsys):
    registry = Registry('loss')
    registry.register(dict, suffix='basicsr')
    assert registry.get('dict') is dict
    assert registry.get('dict_basicsr') is dict
    assert not capsys.readouterr().out


def test_far_names_list_what_is_there():
    registry = Registry('metric')
    registry.register(dict)
    with pytest.raises(RequestError, match=r'the metric registry has no None; it has: dict\.'):
        registry.get(None)

"""How fixes are made, listed and put back."""

import types

import basicsr
import pytest
from basicsr.utils import img_util, options

from pdan_plugin import toolbox_fixes
from pdan_plugin.toolbox_fixes import patching


def test_every_fix_is_described_and_was_needed_by_1_4_2():
    assert set(toolbox_fixes.applied()) == {each.name for each in toolbox_fixes.FIXES}
    for each in toolbox_fixes.FIXES:
        assert each.where
        assert each.symptom
        assert each.make.__doc__
    if basicsr.__version__ == '1.4.2':
        assert [name for name, changed in toolbox_fixes.applied().items() if not changed] in ([], ['distutils_version'])


def test_replaced_functions_are_replaced_wherever_the_toolbox_imported_them(stock):
    import basicsr.train
    import basicsr.utils

    mended = options.parse_options
    assert basicsr.train.parse_options is mended
    assert basicsr.utils.tensor2img is img_util.tensor2img
    with stock():
        assert options.parse_options is not mended
        assert basicsr.train.parse_options is options.parse_options
        assert basicsr.utils.tensor2img is img_util.tensor2img
    assert basicsr.train.parse_options is options.parse_options is mended


def test_the_fixes_come_back_after_an_error(stock):
    mended = options.parse_options
    with pytest.raises(ZeroDivisionError), stock():
        raise ZeroDivisionError
    assert options.parse_options is mended


def test_a_new_attribute_is_taken_away_again(stock, monkeypatch):
    monkeypatch.setattr(patching, '_replacements', [])
    owner = types.ModuleType('basicsr_like')
    patching.replace(owner, 'new', 1)
    with stock():
        assert not hasattr(owner, 'new')
    assert owner.new == 1


def test_a_second_apply_changes_nothing():
    before = options.parse_options, len(patching._replacements)
    toolbox_fixes.apply()
    assert (options.parse_options, len(patching._replacements)) == before

"""Plugins are found, loaded exactly as asked, and named when they fail."""

import sys

import pytest
from basicsr.utils.registry import ARCH_REGISTRY

from pdan_plugin.errors import RequestError
from pdan_plugin.plugins import LoadedPlugin, load_plugins


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(distribution, entry point's name, module, source): a distribution as pip would leave it, for one test."""
    site = tmp_path / 'site'
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    known = set(sys.modules), dict(ARCH_REGISTRY._obj_map)

    def make(distribution, name, module, source):
        (site / f'{module}.py').write_text(source, encoding='utf-8')
        information = site / f'{distribution.replace("-", "_")}-1.0.dist-info'
        information.mkdir()
        (information / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n')
        (information / 'entry_points.txt').write_text(f'[basicsr.plugins]\n{name} = {module}\n')

    yield make
    for module in set(sys.modules) - known[0]:
        del sys.modules[module]
    ARCH_REGISTRY._obj_map.clear()
    ARCH_REGISTRY._obj_map.update(known[1])


def registering(name):
    return f'from basicsr.utils.registry import ARCH_REGISTRY\n\n@ARCH_REGISTRY.register()\nclass {name}:\n    pass\n'


def names(plugins):
    return [plugin.name for plugin in plugins]


def test_every_announced_plugin_is_loaded_and_registers(install):
    install('sharp-nets', 'sharp', 'sharp_nets', registering('SharpNet'))
    loaded = load_plugins(None)
    assert LoadedPlugin('sharp', 'sharp_nets', 'sharp-nets') in loaded
    assert 'SharpNet' in ARCH_REGISTRY


def test_a_list_is_exact(install):
    install('sharp-nets', 'sharp', 'sharp_nets', registering('SharpNet'))
    install('blunt-nets', 'blunt', 'blunt_nets', registering('BluntNet'))
    assert names(load_plugins(['blunt', 'pdan'])) == ['blunt', 'pdan']
    assert 'BluntNet' in ARCH_REGISTRY
    assert 'SharpNet' not in ARCH_REGISTRY
    assert load_plugins([]) == []
    assert 'PDAN' in ARCH_REGISTRY  # this package is there whatever the list says


def test_a_module_of_the_working_folder_can_be_named(install, tmp_path, monkeypatch):
    (tmp_path / 'my_project').mkdir()
    (tmp_path / 'my_project' / 'archs.py').write_text(registering('MyNet'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    assert load_plugins(['my_project.archs']) == [LoadedPlugin('my_project.archs', 'my_project.archs', None)]
    assert 'MyNet' in ARCH_REGISTRY


def test_an_unknown_name_is_told_with_the_nearest_one(install):
    install('sharp-nets', 'sharp', 'sharp_nets', '')
    with pytest.raises(RequestError, match=r"module 'shrap'; did you mean 'sharp'\?"):
        load_plugins(['shrap'])
    for name in ('no.such.module', 'json.no_such_module', 'no-such', '', '.archs', 'json.'):
        with pytest.raises(RequestError, match='there is no installed plugin or module ') as refused:
            load_plugins([name])
        assert repr(name) in str(refused.value)


@pytest.mark.parametrize('name', ['mine/archs.py', './mine/archs.py'])
def test_a_path_of_a_file_is_told_as_a_module(tmp_path, monkeypatch, name):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/archs.py').write_text('')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"did you mean 'mine\.archs'\?"):
        load_plugins([name])


@pytest.mark.parametrize(
    ('package', 'module', 'cause'),
    [
        ('from basicsr.utils.matlab_functions import no_such_name', '', "cannot import name 'no_such_name'"),
        ('import no_such_package', '', "No module named 'no_such_package'"),
        ('', 'import no_such_package.archs', "No module named 'no_such_package'"),
        ('', 'from theirs import no_such_name', "cannot import name 'no_such_name' from 'theirs'"),
        ('', 'import theirs.archs.deeper', "No module named 'theirs.archs.deeper'"),
        ('', 'raise ValueError("too old")', 'ValueError: too old'),
    ],
)
def test_an_error_inside_a_module_that_is_there_is_the_cause(install, tmp_path, monkeypatch, package, module, cause):
    (tmp_path / 'theirs').mkdir()
    (tmp_path / 'theirs' / '__init__.py').write_text(f'{package}\n')
    (tmp_path / 'theirs' / 'archs.py').write_text(f'\n{module}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    with pytest.raises(RequestError) as refused:
        load_plugins(['theirs.archs'])
    text = str(refused.value)
    assert text.startswith("plugin 'theirs.archs' failed to load: ")
    assert cause in text
    assert 'there is no installed plugin or module' not in text
    assert f'{tmp_path / "theirs"}' in text


def test_what_is_no_list_is_named_with_its_file():
    with pytest.raises(RequestError, match=r"^my\.yml: plugins: found 'hat'; expected a list of names"):
        load_plugins('hat', 'my.yml')


@pytest.mark.parametrize(
    ('source', 'cause', 'advice'),
    [
        ('import no_such_package', "No module named 'no_such_package'", 'Install what it needs: no_such_package'),
        ('x = 1\nraise TypeError("too old")', 'TypeError: too old (at {site}/broken_nets.py:2)', 'to its authors'),
        ('import basicsr.models.archs', "No module named 'basicsr.models.archs'", 'written for another BasicSR'),
        (registering('RCAN'), "named 'RCAN' was already registered", 'uninstall one of the two'),
        ('raise SystemExit(3)', 'SystemExit: 3', 'to its authors'),
    ],
)  # fmt: skip
@pytest.mark.parametrize('asked', [None, ['broken']])
def test_a_plugin_that_fails_is_named_with_cause_and_way_out(install, tmp_path, source, cause, advice, asked):
    install('broken-nets', 'broken', 'broken_nets', source)
    with pytest.raises(RequestError) as refused:
        load_plugins(asked)
    text = str(refused.value)
    assert text.startswith("plugin 'broken' (from broken-nets) failed to load: ")
    assert cause.format(site=tmp_path / 'site') in text
    assert advice in text
    assert 'plugins: [...]' in text


def test_a_broken_plugin_that_is_not_listed_does_no_harm(install):
    install('broken-nets', 'broken', 'broken_nets', 'raise TypeError')
    assert names(load_plugins(['pdan'])) == ['pdan']


def test_two_plugins_of_one_name_are_told(install):
    install('sharp-nets', 'sharp', 'sharp_nets', '')
    install('other-nets', 'sharp', 'other_nets', '')
    with pytest.raises(RequestError, match=r"two plugins have the name 'sharp': .*-nets .* and .*-nets"):
        load_plugins(None)

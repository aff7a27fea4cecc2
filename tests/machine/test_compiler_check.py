"""What torch.compile needs is looked for before a run, on a CPU and on a GPU."""

import importlib.util
import sysconfig

import pytest
from torch._inductor import config as inductor_config

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.compiler_check import require_compiler


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A PATH with nothing on it, and Python's headers."""
    (tmp_path / 'Python.h').touch()
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CC', raising=False)
    monkeypatch.setattr(sysconfig, 'get_path', lambda *names: str(tmp_path))
    return tmp_path


def _install(folder, name):
    (folder / name).write_text('#!/bin/sh\n')
    (folder / name).chmod(0o755)


@pytest.mark.parametrize('name', ['gcc', 'clang', 'my-cc'])
def test_a_gpu_needs_a_c_compiler_beside_triton(folder, monkeypatch, name):
    pytest.importorskip('triton')
    with pytest.raises(RequestError, match='needs a C compiler beside Triton on a GPU, and neither gcc nor clang is'):
        require_compiler(on_gpu=True)
    if name == 'my-cc':
        monkeypatch.setenv('CC', 'my-cc -m64')
        with pytest.raises(RequestError, match=r'CC=my-cc -m64 is not there; install one .*the package gcc'):
            require_compiler(on_gpu=True)
    _install(folder, name)
    require_compiler(on_gpu=True)


def test_a_gpu_needs_the_headers_too(folder):
    pytest.importorskip('triton')
    _install(folder, 'gcc')
    (folder / 'Python.h').unlink()
    with pytest.raises(RequestError, match=r'holds no Python\.h; install them .*python3-dev'):
        require_compiler(on_gpu=True)


def test_a_gpu_needs_triton(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(RequestError, match='needs the package triton on a GPU: pip install triton'):
        require_compiler(on_gpu=True)


def test_a_cpu_needs_a_cpp_compiler():
    with (
        inductor_config.patch({'cpp.cxx': (None, 'nowhere/g++')}),
        pytest.raises(RequestError, match=r'needs a C\+\+ compiler on a CPU, .* the package g\+\+'),
    ):
        require_compiler(on_gpu=False)

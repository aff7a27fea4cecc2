"""Processes that begin with torch, the toolbox and the package imported already.

Each is forked from a server that has imported them: that takes milliseconds, where a new Python takes seconds. They are
for tests whose subject is what a process does. Where the subject is the import, the start or the environment that is
read at the start, a test starts Python itself.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
PRELOADED = ['pdan_plugin.commands.main', 'basicsr.train', 'basicsr.test', 'pdan_plugin.commands.train']

_context = multiprocessing.get_context('forkserver')


def warm_context() -> multiprocessing.context.ForkServerContext:
    """The context whose processes are forked from the server; starts the server."""
    _context.set_forkserver_preload(PRELOADED)
    before = Path.cwd(), os.environ.get('OMP_NUM_THREADS')
    # the server keeps what it finds at its start: no folder and no threads of a test
    os.chdir(REPOSITORY)
    os.environ['OMP_NUM_THREADS'] = '1'
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(before[0])
        if before[1] is None:
            del os.environ['OMP_NUM_THREADS']
        else:
            os.environ['OMP_NUM_THREADS'] = before[1]
    return _context


def begin_as_python() -> None:
    """In a process of the server: signals, and what multiprocessing finds, are as in a new Python."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a server in a shell's background ignores it
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    multiprocessing.set_start_method(None, force=True)  # else its own workers come from a server too
    multiprocessing.process._parent_process = None  # pyright: ignore[reportAttributeAccessIssue]


class WarmPython:
    """`python WORDS...` as a warm process, with the methods of `subprocess.Popen` that the tests use.

    Args:
        words: As after `python`: `-m MODULE ...`, `-c TEXT ...` or `SCRIPT ...`.
        cwd: The working folder.
        environment: Variables beside those of this process.
        stdout: A descriptor that is open for writing; default: a pipe, whose other end is the attribute `stdout`.
        stderr: The same; default: where stdout goes.
        held: Further descriptors that the process holds open.
        before: A function of a module that the process calls first.
    """

    def __init__(
        self,
        *words: object,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        held: Sequence[int] = (),
        before: Callable[[], None] | None = None,
    ) -> None:
        context = warm_context()
        reading = writing = None
        if stdout is None:
            reading, writing = os.pipe()
        output = stdout if writing is None else writing
        variables = {**os.environ, 'OMP_NUM_THREADS': '1', **(environment or {})}
        descriptors = [_Descriptor(each) for each in (output, output if stderr is None else stderr, *held)]
        self._process = context.Process(
            target=_python, args=([str(word) for word in words], str(cwd), variables, before, descriptors)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.stdout = None
        if reading is not None and writing is not None:
            os.close(writing)
            self.stdout = os.fdopen(reading, encoding='utf-8', errors='replace')

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired('python', timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """(the rest of the output, None); a process that does not end in time is killed."""
        watchdog = threading.Timer(timeout, self.kill) if timeout else None
        if watchdog is not None:
            watchdog.start()
        try:
            output = ''
            if self.stdout is not None and not self.stdout.closed:
                with self.stdout:
                    output = self.stdout.read()
            self._process.join()
        finally:
            if watchdog is not None:
                watchdog.cancel()
        return output, None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_python(
    *words: object, cwd: Path, environment: Mapping[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run([python, *words])` with captured text, as a warm process.

    Raises:
        subprocess.TimeoutExpired: It did not end in time, and was killed.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = WarmPython(*words, cwd=cwd, environment=environment, stdout=output.fileno(), stderr=errors.fileno())
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors='replace'))
    return subprocess.CompletedProcess(list(map(str, words)), status, *texts)


class _Descriptor:
    """An open file that a process of the server gets too."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return _received, (reduction.DupFd(self.number),)


def _received(descriptor: Any) -> int:
    return descriptor.detach()


def _python(
    words: list[str], cwd: str, variables: dict[str, str], before: Callable[[], None] | None, descriptors: list[int]
) -> None:
    """What `python WORDS` does once it has started."""
    for number, descriptor in enumerate(descriptors[:2], start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)  # else the pipe stays open until the last worker of the process has ended
    # the server's own streams remember whether the server's files can be sought in
    sys.stdout = sys.__stdout__ = open(1, 'w', encoding='utf-8', closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, 'w', 1, 'utf-8', 'backslashreplace', closefd=False)  # noqa: SIM115
    os.setsid()
    begin_as_python()
    if before is not None:
        before()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    status = 1
    try:
        with _traceback_as_python_s():
            _run(words)
        status = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


@contextlib.contextmanager
def _traceback_as_python_s() -> Iterator[None]:
    try:
        yield
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _run(words: list[str]) -> None:
    sys.orig_argv = [sys.executable, *words]
    folders = [each for each in os.environ.get('PYTHONPATH', '').split(os.pathsep) if each]
    prefixes = (sys.prefix, sys.base_prefix)
    installed = [each for each in sys.path if each.startswith(prefixes)]
    if words[0] == '-c':
        sys.path, sys.argv = ['', *folders, *installed], ['-c', *words[2:]]
        namespace = {'__name__': '__main__', '__builtins__': __builtins__}
        exec(compile(words[1], '<string>', 'exec'), namespace)
    elif words[0] == '-m':
        sys.path, sys.argv = [os.getcwd(), *folders, *installed], words[1:]
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        sys.path, sys.argv = [str(Path(words[0]).resolve().parent), *folders, *installed], list(words)
        runpy.run_path(words[0], run_name='__main__')

"""A warm process, which tests start in the place of a new Python, does as a new Python does."""

import signal
import subprocess
import sys

import pytest
from child_processes import hear_requests
from warm_processes import WarmPython, run_python

FINDS = """
import atexit, json, multiprocessing, os, signal, sys, threading
atexit.register(print, 'at the end')
threading.Thread(target=lambda: [threading.main_thread().join(), print('a thread')]).start()
print(json.dumps({
    'words': sys.argv, 'given': sys.orig_argv[1:], 'module': __name__, 'folder': os.getcwd(), 'path': sys.path[0],
    'workers': [multiprocessing.get_start_method(), multiprocessing.parent_process()],
    'signals': [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
    'variable': os.environ['WARM'], 'rank': 'RANK' in os.environ,
}))
print('told', file=sys.stderr)
sys.exit({status})
"""


@pytest.mark.parametrize('status', ['0', '3', 'None', '"a reason"'])
@pytest.mark.parametrize('is_file', [True, False])
def test_it_finds_what_a_new_python_finds(tmp_path, monkeypatch, is_file, status):
    monkeypatch.setenv('RANK', '1')  # set after the server may have started
    text = FINDS.replace('{status}', status)
    (tmp_path / 'script.py').write_text(text)
    words = ['script.py', 'a', '--b'] if is_file else ['-c', text, 'a', '--b']
    monkeypatch.setenv('WARM', 'yes')
    new = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, preexec_fn=hear_requests
    )
    warm = run_python(*words, cwd=tmp_path)
    assert (warm.returncode, warm.stdout, warm.stderr) == (new.returncode, new.stdout, new.stderr)


def test_an_exception_and_a_signal_are_its_status(tmp_path):
    failed = run_python('-c', 'raise ValueError("no")', cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == 'ValueError: no'
    waiting = WarmPython('-c', 'import time; print("waits", flush=True); time.sleep(600)', cwd=tmp_path)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == 'waits\n'
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(60) == -signal.SIGTERM

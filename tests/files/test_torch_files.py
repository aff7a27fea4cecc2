"""A file of torch.save is whole after a kill and after a full disk."""

import contextlib
import os
import signal

import torch
from warm_processes import WarmPython, run_python

from pdan_plugin.files.torch_files import save_atomically

SAVE_FOREVER = """
import sys, itertools, torch
from pdan_plugin.files.torch_files import save_atomically
for number in itertools.count():
    save_atomically({'params': {'weight': torch.full((4_000_000,), float(number))}}, sys.argv[1])
    print(number, flush=True)
"""


def test_killed_during_a_save_the_last_whole_checkpoint_loads(tmp_path):
    """SIGKILL while 16 MB are being written: the file is the one before, and the next save clears what was left."""
    path = tmp_path / 'net_g_latest.pth'
    process = WarmPython('-c', SAVE_FOREVER, path, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == '0\n'
    unfinished = tmp_path / '.net_g_latest.pth.partial'
    size = 0
    while size == 0:
        with contextlib.suppress(OSError):  # none is being written
            size = unfinished.stat().st_size
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = [int(line) for line in process.stdout] or [0]
    weight = torch.load(path, weights_only=True)['params']['weight']
    assert weight.min() == weight.max()
    assert weight[0] in (finished[-1], finished[-1] + 1)

    unfinished.write_bytes(b'half a file')
    save_atomically({'params': {}}, str(tmp_path / 'net_g_6.pth'))
    assert sorted(os.listdir(tmp_path)) == ['net_g_6.pth', 'net_g_latest.pth']


def test_the_system_s_reason_is_told_and_not_torch_s_own_trouble_after_it(tmp_path):
    """Here a limit on the size of files, which any user can set, stands for the full disk."""
    script = (
        'import resource, signal, sys, torch\n'
        'from pdan_plugin.files.torch_files import save_atomically\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n'
        'save_atomically({"a": torch.zeros(1_000_000)}, sys.argv[1])\n'
    )
    done = run_python('-c', script, tmp_path / 'a.pth', cwd=tmp_path.parent)
    assert 'a.pth: File too large; no partial file is left' in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())

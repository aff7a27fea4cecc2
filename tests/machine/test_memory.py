"""What a process holds is what the system says it holds."""

import mmap
import os
import subprocess

import torch

from pdan_plugin.machine.memory import free_memory, held_memory, process_memory

CPU = torch.device('cpu')


def test_what_this_process_holds_grows_with_what_it_takes():
    before = held_memory(CPU)
    taken = torch.frombuffer(mmap.mmap(-1, 2**26), dtype=torch.float32)  # not from what the allocator keeps
    taken.fill_(1)
    assert held_memory(CPU) - before > 0.9 * 2**26
    assert 2**26 < held_memory(CPU) <= process_memory('VmHWM')
    assert free_memory(CPU) > 0
    del taken


def test_another_process_and_one_that_is_gone():
    assert process_memory('VmRSS', os.getpid()) == process_memory('VmRSS')
    child = subprocess.Popen(['true'])
    child.wait()
    assert process_memory('VmRSS', child.pid) is None
    assert process_memory('NoSuchField') is None

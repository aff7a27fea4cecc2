"""Importing the package in a notebook or a server: nothing is printed, and only the toolbox's modules are changed."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
STATE = """
import json, logging, multiprocessing, random, signal, sys, threading
import numpy, torch
import cv2, lmdb, tifffile, torchvision  # what the package imports: they may do what they want
import PIL.Image

def state():  # the finders of .extern: an old setuptools adds them when it is imported
    return {
        'threads of torch': [torch.get_num_threads(), torch.get_num_interop_threads()],
        'threads of OpenCV': cv2.getNumThreads(),
        'threads': threading.active_count(),
        'random numbers': [repr(random.getstate()), repr(numpy.random.get_state())],
        'random numbers of torch': torch.get_rng_state().tolist(),
        'gradients': torch.is_grad_enabled(),
        'number format': [str(torch.get_default_dtype()), torch.get_float32_matmul_precision()],
        'cuDNN': [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32],
        'largest picture': PIL.Image.MAX_IMAGE_PIXELS,
        'log': [logging.getLogger().level, repr(logging.getLogger().handlers)],
        'log of tifffile': [logging.getLogger('tifffile').level, repr(logging.getLogger('tifffile').filters)],
        'signals': [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        'start of processes': multiprocessing.get_start_method(allow_none=True),
        'hooks': [repr(sys.excepthook), repr(sys.displayhook)],
        'finders': [repr(type(finder)) for finder in sys.meta_path if '.extern' not in type(finder).__module__],
        'printed numbers': repr(numpy.get_printoptions()),
    }
"""
IMPORTED = """
before = state()
import pdan_plugin
imported = state()
from pdan_plugin import Restorer, load_network, networks
named = state()
network = load_network(sys.argv[1])
restorer = Restorer(network, 'cpu')
restorer(numpy.zeros((9, 11, 3), numpy.uint8))
used = state()
changed = {what: value for after in (imported, named, used) for what, value in after.items() if value != before[what]}
json.dump(changed, open('changed.json', 'w'))
"""


def test_importing_it_prints_nothing_and_changes_only_the_toolbox(tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', STATE + IMPORTED, 'pdan_small'], cwd=tmp_path, capture_output=True, text=True,
        timeout=600, env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    assert (tmp_path / 'changed.json').read_text() == '{}'
    assert [path.name for path in tmp_path.iterdir()] == ['changed.json']

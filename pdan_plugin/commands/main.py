"""The ``basicsr`` command: runs a subcommand and converts exceptions to an exit status.

0: done. 1: failed while running. 2: the request was wrong, and the message shows what to change. 130, 143: stopped by
Ctrl-C or SIGTERM; a training run has saved its state.

Each subcommand is a module of this package, which is imported when it is called. It has

- ``add_arguments(parser)``;
- ``run(arguments) -> exit status``;
- where needed, ``check_arguments(arguments)``: rejects what can be seen to be wrong before anything is imported;
- where it differs, ``PREPARES_TOOLBOX = False``: ``run`` works without the toolbox, or prepares it itself;
- where it differs, ``CONTINUES = True``: after an interruption the same command continues.

The toolbox is prepared before ``run``, and ``run`` imports the slow modules (torch, the toolbox, NumPy), so help and
errors in the arguments appear at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pdan_plugin import __version__, prepare_toolbox
from pdan_plugin.commands.script_end import FAILED, INTERRUPTED, WRONG_REQUEST
from pdan_plugin.commands.subcommand_parser import SubcommandParser
from pdan_plugin.commands.suggesting_parser import SuggestingParser
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.processes.command_start import (
    compute_on_the_cpu_what_a_gpu_lacks,
    compute_on_the_granted_cores,
    print_any_name,
    print_refusal,
    wait_without_taking_cores,
)

# subcommand (with _ for -, the name of its module): its purpose
COMMANDS = {
    'quickstart': 'a whole example: render clips, train a small PDAN, test it; takes minutes',
    'restore': 'restore a picture, a video, or a folder of them',
    'app': 'a page in the browser to restore a picture or a short video',
    'options': 'list the option files that come with this package, or print one',
    'check': 'check options and data, print sizes, train nothing',
    'train': 'train a network with an option file',
    'test': 'test a trained network with an option file',
    'prepare-reds': "make the stores that training reads from REDS's folders or zips",
    'prepare-pairs': 'make the folders that training reads from your own pictures',
    'synthesize': 'make blurred pairs for training from sharp clips',
    'calibrate-response': "find a camera's response from an exposure series",
    'render-clips': "render blurred clips in REDS's layout from photographs",
    'report': 'write a page or a figure of one test run or of several',
    'picture-sheet': 'draw inputs, results and ground truth side by side, with scores',
    'ensemble': 'merge the results of several models',
    'export': 'write a trained network as ONNX or safetensors',
    'complexity': "count parameters and multiply-accumulates of the networks in PDAN's paper",
    'plugins': 'list everything that is registered, and the fixes of the toolbox',
}

# Their options may be abbreviated, as in the scripts that they were.
FORMER_SCRIPTS = (
    'prepare-reds', 'synthesize', 'calibrate-response', 'render-clips', 'report', 'picture-sheet', 'ensemble', 'export',
    'complexity',
)  # fmt: skip

_PIPE_CLOSED = 141  # as of a program that SIGPIPE ends


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status. An error in the arguments exits with status 2."""
    print_any_name()
    compute_on_the_cpu_what_a_gpu_lacks()
    wait_without_taking_cores()
    compute_on_the_granted_cores()
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(words)
    arguments.words = words
    subcommand = arguments.subcommand
    try:
        if hasattr(subcommand, 'check_arguments'):
            subcommand.check_arguments(arguments)
        from pdan_plugin.commands.name_clash import refuse_ambiguous_command

        if getattr(subcommand, 'PREPARES_TOOLBOX', True):
            prepare_toolbox()
        refuse_ambiguous_command()
        return subcommand.run(arguments)
    except RequestError as error:
        print_refusal(RequestError(_without_worker_traceback(str(error))))
        return WRONG_REQUEST
    except WorkError as error:
        print(f'basicsr {arguments.command}: {error}', file=sys.stderr, flush=True)
        return FAILED
    except KeyboardInterrupt:
        continues = '; the same command continues from here' if getattr(subcommand, 'CONTINUES', False) else ''
        print(f'basicsr {arguments.command}: interrupted{continues}', file=sys.stderr, flush=True)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            return _PIPE_CLOSED
        import traceback

        traceback.print_exc()
        print(
            f'basicsr {arguments.command}: failed while running: {type(error).__name__}: {error}',
            file=sys.stderr,
            flush=True,
        )
        return FAILED


def _reader_has_left() -> bool:
    """Whether the reader of the output, such as `| head`, has ended. What is still buffered then goes nowhere."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _parser() -> argparse.ArgumentParser:
    parser = SuggestingParser(
        prog='basicsr', description='BasicSR with its plugins: train, test and use networks that restore pictures.'
    )
    parser.add_argument('--version', action='version', version=f'pdan-plugin {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND', parser_class=SubcommandParser)
    for name, purpose in COMMANDS.items():
        description = f'{purpose[0].upper()}{purpose[1:]}.'
        module = f'pdan_plugin.commands.{name.replace("-", "_")}'
        commands.add_parser(
            name, module=module, help=purpose, description=description, allow_abbrev=name in FORMER_SCRIPTS
        )
    return parser


def _without_worker_traceback(text: str) -> str:
    """The message without the worker's traceback that torch's data loader adds."""
    return text.rpartition(f'{RequestError.__name__}: ')[2].strip() if text.startswith('Caught RequestError') else text

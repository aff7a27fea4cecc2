#!/usr/bin/env python
"""Proves on your GPU, in one command, that everything here works on it, and how fast.

    python scripts/gpu_acceptance.py --json gpu.json            all checks; none begins after nine minutes
    python scripts/gpu_acceptance.py --only network bf16 tiles  some of them
    python scripts/gpu_acceptance.py --cpu                      what a CPU can show, at small sizes, in two minutes

Every check prints its criterion beside its result. The JSON file is rewritten after each check, so an interruption
loses nothing. Exit status: 0 if all checks for the device passed, 1 if one failed or was not begun, 2 for a wrong
request.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from acceptance import correctness, fused, guarded_steps, runs, speed
from acceptance.checks import Result, Setting, run_checks
from benchmarks.timing import header, machine
from pdan_plugin.commands.argument_types import number
from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.files.json_files import write_json

CHECKS = [*correctness.checks(), *fused.checks(), *guarded_steps.checks(), *runs.checks(), *speed.checks()]
_MARKS = {'passed': 'ok', 'failed': 'FAILED', 'error': 'ERROR', 'left out': '-'}


@ends_script(restartable=False)
def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cpu', action='store_true', help='on the CPU, at small sizes')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='only these checks; --list prints the names')
    parser.add_argument('--list', action='store_true', help='print the checks with their criteria, and stop')
    parser.add_argument('--minutes', type=number(0.1, 600), default=9.0, metavar='N',
                        help='no check begins later (default: 9)')  # fmt: skip
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the results there too, after each check')
    given = parser.parse_args(words)
    names = [check.name for check in CHECKS]
    unknown = sorted(set(given.only or ()).difference(names))
    if unknown:
        raise RequestError(f'--only {" ".join(unknown)}: no such check; the checks are {", ".join(names)}')
    if given.list:
        for check in CHECKS:
            print(f'{check.name:<15} {check.criterion}{" (CUDA only)" if check.needs_cuda else ""}')
        return
    if not given.cpu and not torch.cuda.is_available():
        raise RequestError('torch sees no CUDA device here; --cpu runs what a CPU can show')
    device = torch.device('cpu' if given.cpu else 'cuda')
    described = machine(device)
    print(header(described), end='\n\n', flush=True)
    results: list[Result] = []

    def record(result: Result) -> None:
        results.append(result)
        if given.json is not None:
            write_json(given.json, {'machine': described, 'checks': [asdict(each) for each in results]})
        print(f'{_MARKS[result.status]:<7}{result.name:<15}{result.measured}   [{result.seconds:.0f} s]')
        print(f'{"":<22}criterion: {result.criterion}', flush=True)

    with tempfile.TemporaryDirectory() as folder:
        chosen = [check for check in CHECKS if given.only is None or check.name in given.only]
        run_checks(chosen, Setting(device, given.cpu, Path(folder)), 60 * given.minutes, record)
    faulty = [result.name for result in results if result.status in ('failed', 'error')]
    late = [result.name for result in results if result.status == 'left out' and 'limit' in result.measured]
    print(f'\n{sum(result.status == "passed" for result in results)} of {len(results)} checks passed.')
    if faulty:
        raise WorkError(f'checks that failed: {", ".join(faulty)}. Please report them with the file of --json.')
    if late:
        raise WorkError(f'not begun within {given.minutes:g} minutes; run them: --only {" ".join(late)}')


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python
"""Times this project against the stock toolbox, or a straightforward implementation, in one run on this machine.

    python scripts/benchmark.py train             training steps per second, against the toolbox's SRModel
    python scripts/benchmark.py train --profile   where the time of a step goes
    python scripts/benchmark.py train --picture curves.png
                                                  plot of the losses in bfloat16 and float32
    python scripts/benchmark.py host-tail         average and optimizer at the end of a step, against older forms
    python scripts/benchmark.py validation        two processes against one
    python scripts/benchmark.py loss              HPEM against L1 and against a full sort
    python scripts/benchmark.py loader            training samples per second, against the toolbox's data set
    python scripts/benchmark.py loader --samples 100000 --workers 0 4
                                                  the same for a long time, with memory use
    python scripts/benchmark.py loader --cold 10 --workers 0 4
                                                  from a store of 10 GB that is not in memory, against the bare disk
    python scripts/benchmark.py synthesis         a blurred pair from its sub-frames, against plain numpy
    python scripts/benchmark.py overlap           restoring files, against the slowest of its stages alone
    python scripts/benchmark.py infer             the full PDAN in bfloat16, against the toolbox's RCAN of its size
    python scripts/benchmark.py infer --weights pdan_small
                                                  a trained network in this project, ONNX Runtime and OpenVINO
    python scripts/benchmark.py start             help, mistakes and a first picture, against `import torch`

``ratio`` is how many times faster this project is. The machine may be busy: after warm-up rounds, each round times
every side once, and medians are compared. ``--json`` prints one JSON object instead of tables.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# otherwise torch's profiler, also used to measure memory, logs every start
os.environ.setdefault('KINETO_LOG_LEVEL', '99')
# as the `basicsr` command, see `wait_without_taking_cores`; importing that would import torch
if 'OMP_WAIT_POLICY' not in os.environ:
    os.environ.setdefault('GOMP_SPINCOUNT', '2000')

import torch

from benchmarks import (
    host_tail,
    infer,
    loader,
    loader_endurance,
    loss,
    loss_curves,
    overlap,
    programs,
    start,
    step_profile,
    synthesis,
    training,
    validation,
)
from benchmarks.timing import chosen_device, header, machine
from pdan_plugin.commands.argument_types import number, whole_number
from pdan_plugin.errors import RequestError
from pdan_plugin.processes.command_start import print_any_name

# A benchmark's result, the function that formats it, and the command to suggest next.
Answer = tuple[dict[str, Any], Callable[[Any], str], str]

_count, _positive, _width = whole_number(0), whole_number(1), whole_number(16, multiple_of=16)


def run_loss(arguments: argparse.Namespace, described: dict[str, Any]) -> Answer:
    return loss.benchmark_loss(arguments.rounds), loss.table, 'train'


def run_train(arguments: argparse.Namespace, described: dict[str, Any]) -> Answer:
    device = chosen_device(arguments.device)
    width = arguments.features[0]
    if arguments.picture is not None:
        result = loss_curves.compare_curves(arguments.picture, arguments.iterations, width, device, described)
        return result, loss_curves.table, 'validation'
    if arguments.profile:
        result = step_profile.profile_training(width, arguments.rounds, device)
        return result, step_profile.table, 'train --picture curves.png'
    result = training.benchmark_training(arguments.features, arguments.rounds, device)
    return result, training.table, 'train --profile'


def run_host_tail(arguments: argparse.Namespace, described: dict[str, Any]) -> Answer:
    result = host_tail.benchmark_host_tail(arguments.rounds, chosen_device(arguments.device))
    return result, host_tail.table, 'train --profile'


def run_validation(arguments: argparse.Namespace, described: dict[str, Any]) -> Answer:
    result = validation.benchmark_validation(arguments.rounds, arguments.features)
    return result, validation.table, 'loss'


def run_loader(arguments: argparse.Namespace, described: dict[str, Any]) -> Answer:
    if arguments.cold is not None:
        samples = arguments.samples or 3000
        result = loader_endurance.benchmark_cold(arguments.folder, arguments.cold, samples, arguments.workers)
        return result, loader_endurance.table, 'train'
    if arguments.samples is not None:
        result = loader_endurance.benchmark_endurance(arguments.samples, arguments.workers)
        return result, loader_endurance.table, 'loader --cold 10'
    return loader.benchmark_loader(arguments.rounds), loader.table, 'loader --samples 100000'


def run_synthesis(arguments: argparse.Namespace, described: dict[str, Any]) -> Answer:
    return synthesis.benchmark_synthesis(arguments.rounds), synthesis.table, 'loader'


def run_overlap(arguments: argparse.Namespace, described: dict[str, Any]) -> Answer:
    seconds = [each / 1000 for each in arguments.sleep]
    return overlap.benchmark_overlap(arguments.pictures, arguments.frames, seconds), overlap.table, 'infer'


def run_infer(arguments: argparse.Namespace, described: dict[str, Any]) -> Answer:
    device = chosen_device(arguments.device)
    if arguments.weights is not None:
        result = programs.benchmark_programs(arguments.weights, arguments.opt, arguments.rounds, device)
        return result, programs.table, 'infer'
    result = infer.benchmark_infer(arguments.rounds, arguments.features, device, compiled=arguments.compile)
    return result, infer.table, 'infer --weights pdan_small'


def run_start(arguments: argparse.Namespace, described: dict[str, Any]) -> Answer:
    return start.benchmark_start(arguments.rounds), start.table, 'infer'


def main(arguments: Sequence[str] | None = None) -> int:
    print_any_name()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = parser.add_subparsers(dest='name', metavar='NAME', required=True)
    train = names.add_parser('train', help="training steps per second, against the toolbox's SRModel")
    train.add_argument(
        '--features',
        type=_width,
        nargs='+',
        default=[64, 128],
        metavar='N',
        help='widths of the networks, multiples of 16 (default: 64 128); --profile and --picture use the first',
    )
    train.add_argument('--device', choices=['auto', 'cpu', 'cuda'], default='auto', help='default: auto')
    instead = train.add_mutually_exclusive_group()
    instead.add_argument('--profile', action='store_true', help='instead: where the time of a step goes')
    instead.add_argument(
        '--picture',
        type=Path,
        metavar='FILE',
        help='instead: train in float32 and in bfloat16 and draw both losses; the same command continues it',
    )
    train.add_argument('--iterations', type=_positive, metavar='N', help='iterations of --picture (default: 500)')
    train.add_argument('--rounds', type=_positive, metavar='N', help='timed rounds, without --picture (default: 10)')
    train.set_defaults(run=run_train)
    of_tail = names.add_parser('host-tail', help='average and optimizer at the end of a step, against older forms')
    of_tail.add_argument('--device', choices=['auto', 'cpu', 'cuda'], default='auto', help='default: auto')
    of_tail.add_argument('--rounds', type=_positive, default=20, metavar='N', help='timed rounds (default: 20)')
    of_tail.set_defaults(run=run_host_tail)
    of_validation = names.add_parser('validation', help='two processes against one')
    of_validation.add_argument('--features', type=_width, default=32, metavar='N', help='RCAN width (default: 32)')
    of_validation.add_argument('--rounds', type=_positive, default=5, metavar='N', help='timed rounds (default: 5)')
    of_validation.set_defaults(run=run_validation, device='cpu')
    of_loss = names.add_parser('loss', help='HPEM against L1 and against a full sort')
    of_loss.add_argument('--rounds', type=_positive, default=30, metavar='N', help='timed rounds (default: 30)')
    of_loss.set_defaults(run=run_loss, device='cpu')
    of_loader = names.add_parser('loader', help="training samples per second, against the toolbox's data set")
    of_loader.add_argument('--rounds', type=_positive, metavar='N', help='timed rounds (default: 10)')
    of_loader.add_argument(
        '--samples', type=whole_number(1000), metavar='N', help='instead: read so many, look at memory'
    )
    of_loader.add_argument(
        '--cold', type=number(0.001, 100_000), metavar='GB', help='instead: from new stores of this size, on disk'
    )
    of_loader.add_argument(
        '--workers', type=_count, nargs='+', metavar='N', help='processes of --samples and --cold (default: 0 4)'
    )
    of_loader.add_argument('--folder', type=Path, metavar='PATH', help='where --cold makes its stores (default: here)')
    of_loader.set_defaults(run=run_loader, device='cpu')
    of_synthesis = names.add_parser('synthesis', help='a blurred pair from its sub-frames, against plain numpy')
    of_synthesis.add_argument('--rounds', type=_positive, default=7, metavar='N', help='timed rounds (default: 7)')
    of_synthesis.set_defaults(run=run_synthesis, device='cpu')
    of_infer = names.add_parser('infer', help="the full PDAN in bfloat16, against the toolbox's RCAN of its size")
    of_infer.add_argument('--features', type=_width, metavar='N', help='width of both networks (default: 128)')
    of_infer.add_argument('--device', choices=['auto', 'cpu', 'cuda'], default='auto', help='default: auto')
    of_infer.add_argument('--rounds', type=_positive, default=3, metavar='N', help='timed rounds (default: 3)')
    of_infer.add_argument('--compile', action='store_true', help='time the compiled PDAN as well')
    of_infer.add_argument(
        '--weights',
        type=Path,
        metavar='FILE',
        help='instead: a trained network, such as pdan_small, in this project, plain torch, ONNX Runtime and OpenVINO; '
        'and how far bf16 is from fp32',
    )
    of_infer.add_argument('-opt', type=Path, metavar='FILE', help='for --weights (default: from the experiment folder)')
    of_infer.set_defaults(run=run_infer)
    of_start = names.add_parser(
        'start', help='help, mistakes and a first picture, against the start of Python and torch'
    )
    of_start.add_argument('--rounds', type=_positive, default=3, metavar='N', help='starts of each (default: 3)')
    of_start.set_defaults(run=run_start, device='cpu')
    of_overlap = names.add_parser('overlap', help='restoring files, against the slowest of its stages alone')
    of_overlap.add_argument('--pictures', type=_positive, default=48, metavar='N', help='PNG pictures (default: 48)')
    of_overlap.add_argument('--frames', type=_positive, default=100, metavar='N', help='of the video (default: 100)')
    of_overlap.add_argument(
        '--sleep', type=_positive, nargs='+', default=[25, 80], metavar='MS', help="the network's time (default: 25 80)"
    )
    of_overlap.set_defaults(run=run_overlap, device='cpu')
    for each in (train, of_tail, of_validation, of_loss, of_loader, of_synthesis, of_infer, of_start, of_overlap):
        each.add_argument('--json', action='store_true', help='print one JSON object')
    given = parser.parse_args(arguments)
    if given.name == 'train':
        _settle_rounds(train, given)
    if given.name == 'loader':
        _settle_loader(of_loader, given)
    if given.name == 'infer':
        _settle_infer(of_infer, given)

    try:
        device = chosen_device(given.device)
        described = _described(given, device)
        if not given.json:
            print(header(described), end='\n\n', flush=True)
        result, table, following = given.run(given, described)
    except RequestError as error:
        print(f'benchmark: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = '; the same command continues from the last saved state' if getattr(given, 'picture', None) else ''
        print(f'benchmark: interrupted{kept}', file=sys.stderr)
        return 130
    if given.json:
        print(json.dumps({**result, 'machine': described}))
    else:
        print(f'{table(result)}\n\nNext: python scripts/benchmark.py {following}')
    return 0


def _settle_rounds(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Reject --iterations without --picture and --rounds with it, which would do nothing; set the defaults."""
    if given.picture is None and given.iterations is not None:
        parser.error('--iterations is for --picture; timing has --rounds')
    if given.picture is not None and given.rounds is not None:
        parser.error('--rounds is for timing; --picture has --iterations')
    given.iterations = given.iterations or 500
    given.rounds = given.rounds or 10


def _settle_loader(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Reject options without effect: --rounds is for the ratio, --workers for the others, --folder for --cold."""
    is_long = given.samples is not None or given.cold is not None
    if is_long and given.rounds is not None:
        parser.error('--rounds is for the comparison, without --samples and --cold')
    if not is_long and given.workers is not None:
        parser.error('--workers is for --samples and --cold; the comparison has one process')
    if given.cold is None and given.folder is not None:
        parser.error('--folder is for --cold')
    if given.folder is not None and not given.folder.is_dir():
        parser.error(f'--folder {given.folder}: no such folder')
    given.rounds, given.workers, given.folder = given.rounds or 10, given.workers or [0, 4], given.folder or Path()


def _settle_infer(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Reject options without effect: -opt is for --weights, --features and --compile for the networks without."""
    if given.opt is not None and given.weights is None:
        parser.error('-opt is for --weights')
    if given.weights is not None and (given.features is not None or given.compile):
        parser.error('--features and --compile are for the full PDAN, without --weights')
    given.features = given.features or 128


def _described(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    if given.name == 'validation':
        return machine(device, processes=2, threads=1)
    if given.name == 'loader':
        return machine(device, processes=max(given.workers) + 1 if given.samples or given.cold else 1, threads=1)
    return machine(device, threads=1) if given.name == 'synthesis' else machine(device)


if __name__ == '__main__':
    sys.exit(main())

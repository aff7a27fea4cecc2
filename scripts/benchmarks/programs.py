"""Speed of one trained network in several programs on a CPU: this project, plain torch, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.infer import SIZE, agreement_line, first_picture, measure_agreement
from benchmarks.timing import Candidate, medians, times_in_turn
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.cores import usable_cores
from pdan_plugin.restoration.inference_network import inference_network
from pdan_plugin.weights.onnx_export import INPUT, export_onnx
from pdan_plugin.weights.trained_network import load_recorded_network

PLAIN = 'plain torch, fp32'
OURS, RUNTIME, OPENVINO = 'this project', 'ONNX Runtime', 'OpenVINO'
PRECISIONS = ('fp32', 'bf16')
_COMPARED = ((RUNTIME, 'fp32'), *((OPENVINO, each) for each in PRECISIONS))
_AGREEMENT_PICTURES = 3
_WARM_UP = 2  # rounds
_OPENVINOS_WORD = {'fp32': 'f32', 'bf16': 'bf16'}

Compute = Callable[[Tensor], np.ndarray]


@dataclass(frozen=True)
class Prepared:
    """A program that has the network ready.

    Attributes:
        compute: (1, c, h, w) float32 -> (1, c, s * h, s * w) float32.
        seconds: Time of reading and compiling the ONNX model; None for this project and torch.
    """

    compute: Compute
    seconds: float | None = None


def benchmark_programs(
    weights: Path, option_file: Path | None, rounds: int, device: torch.device, *, size: tuple[int, int] = SIZE
) -> dict[str, Any]:
    """Times one picture in each program in turn, with as many threads each as torch has.

    Plain torch is the network as it is loaded. The other two programs get the network as an ONNX model of this size. On
    a GPU only this project and plain torch are compared.

    Args:
        size: (height, width) of the input.

    Returns:
        ``seconds`` and ``times`` by program and precision; ``processor_seconds``, of all threads together, which do not
        count waiting for a core of a busy machine; ``against`` and ``processor_against``, a program's time divided by
        this project's in the same precision; ``preparing``, the seconds in which a program made the ONNX model ready;
        ``grey_levels``, the largest difference of the picture from that of plain torch; ``missing``, programs that are
        not installed, with the command to install them; ``agreement``, see
        :func:`~benchmarks.infer.measure_agreement`; ``measured_on``.

    Raises:
        RequestError: The weights do not fit, or their scale is not 4.
    """
    agreement = measure_agreement(weights, option_file, _AGREEMENT_PICTURES, device)  # first: reports a wrong file
    network, record = load_recorded_network(weights, option_file)
    picture = first_picture(size)
    programs = {PLAIN: Prepared(_plain(network.to(device), device))}
    for precision in PRECISIONS:
        programs[f'{OURS}, {precision}'] = Prepared(_ours(network, device, precision))
    missing: dict[str, str] = {}
    if device.type == 'cpu':
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / 'network.onnx'
            try:
                export_onnx(network, record, model, size=size, tell=lambda line: None)
            except RequestError as error:
                missing[f'{RUNTIME}, {OPENVINO}'] = str(error)
            else:
                programs |= _of_the_model(model, missing)
    processor: dict[str, list[float]] = {name: [] for name in programs}

    def candidate(name: str) -> Candidate:
        def call() -> None:
            start = time.process_time()
            programs[name].compute(picture)
            processor[name].append(time.process_time() - start)

        return Candidate(call)

    candidates = {name: candidate(name) for name in programs}
    times = times_in_turn(candidates, rounds, _WARM_UP, device=device, description='restoring')
    seconds = medians(times)
    processor_seconds = medians({name: each[_WARM_UP:] for name, each in processor.items()})
    expected = _grey_levels(programs[PLAIN].compute(picture))
    return {
        'seconds': seconds,
        'times': times,
        'preparing': {name: each.seconds for name, each in programs.items() if each.seconds is not None},
        'processor_seconds': processor_seconds,
        'against': _against(seconds),
        'processor_against': _against(processor_seconds),
        'grey_levels': {
            name: int(np.abs(_grey_levels(each.compute(picture)) - expected).max())
            for name, each in programs.items()
            if name != PLAIN
        },
        'missing': missing,
        'agreement': agreement,
        'measured_on': {
            'weights': str(weights),
            'network': record.options['type'],
            'input': [1, 3, *size],
            'device': device.type,
            'threads': torch.get_num_threads(),
        },
    }


def _against(seconds: Mapping[str, float]) -> dict[str, float]:
    return {
        name: each / seconds[f'{OURS}, {name.rpartition(" ")[2]}']
        for name, each in seconds.items()
        if not name.startswith(OURS)
    }


def _plain(network: nn.Module, device: torch.device) -> Compute:
    def compute(picture: Tensor) -> np.ndarray:
        with torch.no_grad():
            return network(picture.to(device)).cpu().numpy()

    return compute


def _ours(network: nn.Module, device: torch.device, precision: str) -> Compute:
    restore = inference_network(network, device, precision=precision)
    return lambda picture: restore(picture).cpu().numpy()


def _of_the_model(model: Path, missing: dict[str, str]) -> dict[str, Prepared]:
    programs: dict[str, Prepared] = {}
    for program, precision in _COMPARED:
        start = time.perf_counter()
        try:
            compute = _runtime(model) if program == RUNTIME else _openvino(model, precision)
        except ImportError as error:
            missing[program] = f'pip install {error.name}'
            continue
        programs[f'{program}, {precision}'] = Prepared(compute, time.perf_counter() - start)
    return programs


def _runtime(model: Path) -> Compute:
    runtime = importlib.import_module('onnxruntime')
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(model), options, providers=['CPUExecutionProvider'])
    return lambda picture: session.run(None, {INPUT: picture.numpy()})[0]


def _openvino(model: Path, precision: str) -> Compute:
    openvino = importlib.import_module('openvino')
    settings = {
        'INFERENCE_PRECISION_HINT': _OPENVINOS_WORD[precision],
        'INFERENCE_NUM_THREADS': torch.get_num_threads(),
        'PERFORMANCE_HINT': 'LATENCY',
    }
    compiled = openvino.compile_model(str(model), 'CPU', settings)
    return lambda picture: compiled(picture.numpy())[0]


def _grey_levels(picture: np.ndarray) -> np.ndarray:
    return (picture.clip(0, 1) * 255).round()


def table(result: Mapping[str, Any]) -> str:
    measured_on = result['measured_on']
    height, width = measured_on['input'][-2:]
    lines = [
        f'{measured_on["network"]} of {measured_on["weights"]}, an input of {width}x{height}, '
        f'{measured_on["threads"]} of {usable_cores()} cores',
        f'  {"":<22}{"a picture":>11}{"to this project":>17}{"processor time":>16}{"to this project":>17}'
        f'{"grey levels off":>17}{"made ready in":>15}',
    ]
    for name, seconds in result['seconds'].items():
        cells = [
            (f'{seconds:.4f} s', 11),
            (_times(result['against'].get(name)), 17),
            (f'{result["processor_seconds"][name]:.4f} s', 16),
            (_times(result['processor_against'].get(name)), 17),
            (f'at most {result["grey_levels"][name]}' if name in result['grey_levels'] else '', 17),
            (f'{result["preparing"][name]:.1f} s' if name in result['preparing'] else '', 15),
        ]
        lines.append(f'  {name:<22}' + ''.join(f'{text:>{width}}' for text, width in cells).rstrip())
    lines += [f'  {name}: not compared; {why}' for name, why in result['missing'].items()]
    lines.append(agreement_line(result['agreement']))
    return '\n'.join(lines)


def _times(ratio: float | None) -> str:
    return '' if ratio is None else f'{ratio:.2f} times'

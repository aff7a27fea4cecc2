"""`basicsr export`: writes a trained network as one ONNX or safetensors file."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.sizes import disk_in_words
from pdan_plugin.weights.onnx_export import DEFAULT_OPSET, OPSETS, export_onnx, require_packages
from pdan_plugin.weights.packaged_weights import find_weights
from pdan_plugin.weights.trained_network import load_recorded_network, save_trained_network


def export_network(
    weights: Path,
    output: Path,
    option_file: Path | None = None,
    *,
    float16: bool = False,
    opset: int | None = None,
    size: tuple[int, int] | None = None,
    param_key: str | None = None,
    tell: Callable[[str], None] = print,
) -> str:
    """Writes ``output``, FILE.onnx or FILE.safetensors, with :func:`~pdan_plugin.weights.onnx_export.export_onnx` or
    :func:`~pdan_plugin.weights.trained_network.save_trained_network`.

    Args:
        weights: A file, or the name of weights that come with this package.
        size: (height, width) of the only pictures that an ONNX model takes; None for pictures of any size.
        param_key: See :func:`~pdan_plugin.weights.trained_network.load_trained_network`.

    Returns:
        A text for the user: the file written, and the next command.

    Raises:
        RequestError: as these two, or the request is wrong; nothing was written.
        WorkError: the result of the ONNX model differs from torch's.
    """
    kind = output.suffix.lower()
    weights, _ = find_weights(weights)
    if kind not in ('.onnx', '.safetensors'):
        raise RequestError(f'-o {output}: expected a file name that ends in .onnx or .safetensors.')
    if output.is_dir():
        raise RequestError(f'-o {output} is a folder; give a file name.')
    if output.resolve() == weights.resolve():
        raise RequestError(f'-o {output} is also the weights file to read; give another name.')
    if kind == '.safetensors' and opset is not None:
        raise RequestError('--opset is for an ONNX model; leave it out, or give -o FILE.onnx.')
    if opset is not None and opset not in OPSETS:
        raise RequestError(f'--opset {opset}: expected {OPSETS.start} to {OPSETS.stop - 1}.')
    if kind == '.safetensors' and size is not None:
        raise RequestError('--size is for an ONNX model; leave it out, or give -o FILE.onnx.')
    if kind == '.onnx':
        require_packages()
    network, record = load_recorded_network(weights, option_file, param_key=param_key)
    for note in record.notes:
        tell(note)
    if kind == '.safetensors':
        save_trained_network(network, record, output, float16=float16)
        return f'{_described(output)}\nNext: basicsr restore INPUT -o OUTPUT -w {shlex.quote(str(output))}'
    worst = export_onnx(network, record, output, float16=float16, opset=opset or DEFAULT_OPSET, size=size, tell=tell)
    return (
        f'{_described(output)}, within {worst:.2g} grey levels of torch\n'
        'Next, in onnxruntime (OpenVINO reads it too; OpenCV does not): '
        f"onnxruntime.InferenceSession({str(output)!r}).run(None, {{'input': PICTURES}})"
    )


def _described(output: Path) -> str:
    return f'{output}: {disk_in_words(output.stat().st_size)}'

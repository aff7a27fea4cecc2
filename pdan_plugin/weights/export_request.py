"""What `basicsr export` can write, checked before anything slow is imported."""

from __future__ import annotations

from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.weights.packaged_weights import find_weights_file

DEFAULT_OPSET = 18
OPSETS = range(18, 24)


def check_export(
    weights: Path, output: Path, *, opset: int | None = None, size: tuple[int, int] | None = None
) -> tuple[Path, str]:
    """Checks the arguments of :func:`~pdan_plugin.weights.network_export.export_network`, without reading a file.

    Returns:
        The weights file, and the kind of the output: '.onnx' or '.safetensors'.

    Raises:
        RequestError: They contradict each other or are out of range, or there is no such weights file.
    """
    kind = output.suffix.lower()
    weights, _ = find_weights_file(weights)
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
    if size is not None and min(size) < 1:
        raise RequestError(f'--size {size[0]} {size[1]}: expected a height and a width of at least 1 pixel.')
    if not weights.exists():
        raise RequestError(f'{weights}: no such weights file.')
    return weights, kind

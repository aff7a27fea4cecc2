"""`basicsr export`: writes a trained network as one ONNX or safetensors file."""

from __future__ import annotations

import shlex
from pathlib import Path

from pdan_plugin.machine.sizes import disk_in_words
from pdan_plugin.weights.earlier_export import note_on_replacing
from pdan_plugin.weights.export_request import DEFAULT_OPSET, check_export
from pdan_plugin.weights.onnx_export import export_onnx, require_packages
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
    overwrite: bool = False,
) -> str:
    """Writes ``output``, FILE.onnx or FILE.safetensors, with :func:`~pdan_plugin.weights.onnx_export.export_onnx` or
    :func:`~pdan_plugin.weights.trained_network.save_trained_network`.

    Args:
        weights: A file, or the name of weights that come with this package.
        size: (height, width) of the only pictures that an ONNX model takes; None for pictures of any size.
        param_key: See :func:`~pdan_plugin.weights.trained_network.load_trained_network`.
        overwrite: Whether any file may be replaced. Without it an earlier export may be, and no other file.

    Returns:
        A text for the user: the file written, and the next command.

    Raises:
        RequestError: An argument is wrong, or one of the two functions raised it. Nothing was written.
        WorkError: The result of the ONNX model differs from torch's.
    """
    weights, kind = check_export(weights, output, opset=opset, size=size)
    if kind == '.onnx':
        require_packages()
    network, record = load_recorded_network(weights, option_file, param_key=param_key)
    for note in record.notes:
        print(note)
    replacing = None if overwrite else note_on_replacing(output, record)
    if replacing is not None:
        print(f'Note: {replacing}')
    if kind == '.safetensors':
        save_trained_network(network, record, output, float16=float16)
        return f'{_described(output)}\nNext: basicsr restore INPUT -o OUTPUT -w {shlex.quote(str(output))}'
    worst = export_onnx(network, record, output, float16=float16, opset=opset or DEFAULT_OPSET, size=size)
    return (
        f'{_described(output)}, within {worst:.2g} grey levels of torch\n'
        'Next, in onnxruntime (OpenVINO reads it too; OpenCV does not): '
        f"onnxruntime.InferenceSession({str(output)!r}).run(None, {{'input': PICTURES}})"
    )


def _described(output: Path) -> str:
    return f'{output}: {disk_in_words(output.stat().st_size)}'

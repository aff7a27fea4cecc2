"""Exports a trained network as an ONNX model, for pictures of any size or of one, and compares it with torch before
saving.

Uses torch's newer exporter (torch.export, then onnxscript). Unlike the older one, it traces PDAN's autograd functions
as plain operations, and rejects or shows a size that became fixed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pdan_plugin.errors import RequestError, WorkError, refusing_unwritable
from pdan_plugin.files.whole_files import written_whole
from pdan_plugin.machine.accepted_sizes import accepted_sizes, windows_of
from pdan_plugin.machine.cores import usable_cores
from pdan_plugin.machine.tf32 import full_float32
from pdan_plugin.weights.export_request import DEFAULT_OPSET, OPSETS
from pdan_plugin.weights.float16_network import float16_network
from pdan_plugin.weights.padded_network import PaddedNetwork, padded_if_needed
from pdan_plugin.weights.trained_network import NetworkRecord
from pdan_plugin.weights.weights_file import in_float16

PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')
INPUT, OUTPUT = 'input', 'output'

# (batch, height, width): one size to trace, others to compare, with odd sizes, a size taller than wide, and a tiny one
TRACED_SIZE = (2, 24, 40)
CHECKED_SIZES = ((1, 32, 48), (1, 33, 47), (2, 45, 23), (1, 1, 2))
# for values in [0, 1]: fp32 allows for sums in another order, fp16 for one grey level
TOLERANCE = {'fp32': 0.1 / 255, 'fp16': 1 / 255}
_ADVICE = (
    '. For a model of one size give --size HEIGHT WIDTH; for pictures of any size use `basicsr restore`, or save '
    'safetensors.'
)
_FLOAT32_SUMS = ('ReduceMean', 'ReduceSum', 'GlobalAveragePool')


def export_onnx(
    network: nn.Module,
    record: NetworkRecord,
    path: Path,
    *,
    float16: bool = False,
    opset: int = DEFAULT_OPSET,
    size: tuple[int, int] | None = None,
    tell: Callable[[str], None] = print,
) -> float:
    """Writes a network as an ONNX model, if onnxruntime computes the same results with it as torch.

    The model maps ``input`` (batch, c, height, width), float32 RGB in [0, 1], to ``output`` (batch, c, scale * height,
    scale * width), float32, not clipped. All sizes but c are free, unless ``size`` is given. With ``float16`` the inner
    layers are float16 (:func:`~pdan_plugin.weights.float16_network.float16_network`), but means over the picture are
    summed in float32 in any runtime. Input and output stay float32, so the two models are interchangeable. The metadata
    holds scale, color_order, value_range, precision, and the texts of ``record``.

    A network that accepts only multiples of a size, or only pictures of at least some size, is exported with the
    extension of the picture inside. If it computes
    in windows, as SwinIR does, ``size`` is required: it computes attention masks and its batch size from the input size
    with Python's numbers, and torch's exporter did not trace two blocks of a SwinIR for any size within two minutes.

    Args:
        network: in eval mode, on the CPU, in float32; maps one batch of pictures to one.
        size: (height, width) of the only pictures that the model takes, one picture at a time; any size, because the
            extension is inside.
        tell: called with a line of text at each step.

    Returns:
        The largest difference of an output from float32 in torch, in grey levels (1/255). For float16 this includes
        float16 in torch, because onnxruntime may compute float16 layers in float32 on a CPU.

    Raises:
        RequestError: a package is missing; the network has other inputs or outputs, cannot be exported, or needs
            ``size``; a weight is beyond float16's range; the file cannot be written.
        WorkError: the model's output differs from torch's. After an error ``path`` is unchanged.
    """
    require_packages()
    if opset not in OPSETS:
        raise RequestError(f'--opset {opset}: expected {OPSETS.start} to {OPSETS.stop - 1}.')
    channels = _channels(network, record)
    network = padded_if_needed(network, channels)
    is_free = size is None
    if is_free and isinstance(network, PaddedNetwork) and windows_of(network):
        raise RequestError(
            f'{record.options["type"]} computes in windows of pixels, so its ONNX model takes pictures of one size: '
            'give --size HEIGHT WIDTH.'
        )
    if size is not None and min(size) < 1:
        raise RequestError(f'--size {size[0]} {size[1]}: expected a height and a width of at least 1 pixel.')
    if size is None:
        b, *sides = TRACED_SIZE
        traced_size = (b, *(max(side, _smallest_traced(network)) for side in sides))
        checked_sizes = CHECKED_SIZES
    else:
        traced_size, checked_sizes = (1, *size), ((1, *size),)
    pictures = [_test_pictures(channels, *checked) for checked in checked_sizes]
    expected = [_reference(network, record, batch) for batch in pictures]
    scale = _scale(record, pictures, expected)
    traced, example = network, _test_pictures(channels, *traced_size)
    worst = 0.0
    if float16:
        in_float16(network.state_dict(), record.source)
        traced = float16_network(network, example)
        for batch, wanted in zip(pictures, expected, strict=True):
            # onnxruntime may compute float16 layers in float32 on a CPU; torch does not
            found = _float16_result(traced, record, batch)
            worst = max(worst, 255 * _compare('float16 in torch', found, wanted, batch, 'fp16'))
        tell(f'float16 in torch differs from float32 by at most {worst:.2g} grey levels')

    facts = {
        'scale': str(scale),
        'color_order': 'RGB',
        'value_range': '[0, 1]',
        'precision': 'fp16' if float16 else 'fp32',
        **record.metadata(),
    }
    with refusing_unwritable(path), written_whole(path, durable=True) as unfinished:
        longer = ', one of windows longer; --size HEIGHT WIDTH is quick' if is_free and windows_of(network) else ''
        tell(f'Tracing {record.options["type"]} (a network of hundreds of layers takes minutes{longer}) ...')
        model = _traced(traced, example, record, opset, is_free=is_free)
        if float16:
            _sum_in_float32(model)
        _write(model, facts, unfinished)
        session = _session(unfinished)
        for batch, wanted in zip(pictures, expected, strict=True):
            found = _computed(session, batch, record, is_free=is_free)
            difference = 255 * _compare('onnxruntime', found, wanted, batch, facts['precision'])
            tell(f'{tuple(batch.shape)}: differs from torch by at most {difference:.2g} grey levels')
            worst = max(worst, difference)
    return worst


def _channels(network: nn.Module, record: NetworkRecord) -> int:
    """The channels of the input: of the options, else those that the network takes; 3 if it takes no trial."""
    for name in ('num_in_ch', 'in_chans'):
        if name in record.options:
            return int(record.options[name])
    try:
        with torch.no_grad():
            return accepted_sizes(network, network).channels
    except (RequestError, MemoryError):  # the reference run reports the error
        return 3


def require_packages() -> None:
    """Raises a RequestError with the pip command if a package for ONNX is missing."""
    missing = []
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise RequestError(
            f'an ONNX model needs the package{"s" * (len(missing) > 1)} {", ".join(missing)}: '
            'pip install "pdan-plugin[onnx]"'
        )


def _test_pictures(channels: int, b: int, h: int, w: int) -> Tensor:
    """(b, channels, h, w) in [0, 1]: shading, stripes that get finer, a hard edge, and a little noise."""
    rows, columns = np.mgrid[0:h, 0:w] / max(h, w)
    pictures = np.empty((b, channels, h, w))
    noise = np.random.default_rng(0)
    for index in np.ndindex(b, channels):
        phase = 1.3 * index[0] + 0.7 * index[1]
        pictures[index] = 0.5 + 0.2 * (rows - columns) + 0.15 * np.sin(40 * columns**2 + phase)
        pictures[index] += 0.2 * (rows + 0.5 * columns > 0.4 + 0.1 * phase)
    pictures += noise.normal(scale=0.02, size=pictures.shape)
    return torch.from_numpy(pictures.clip(0, 1).astype(np.float32))


def _run(network: nn.Module, batch: Tensor) -> Tensor:
    with torch.no_grad(), full_float32():
        return network(batch)


def _reference(network: nn.Module, record: NetworkRecord, batch: Tensor) -> np.ndarray:
    case = f'{record.options["type"]} with input {tuple(batch.shape)}'
    try:
        output = _run(network, batch)
    except Exception as error:
        raise RequestError(
            f'{case} fails in torch ({_first_line(error)}). Only a network that takes one batch of pictures '
            '(b, c, h, w) of any size can be exported.'
        ) from error
    if not isinstance(output, Tensor) or output.dim() != 4 or output.dtype != torch.float32:
        raise RequestError(f'{case} does not return one float32 batch of pictures (b, c, h, w); it cannot be exported.')
    if not output.isfinite().all():
        raise RequestError(f'{case} returns values that are not finite: the weights of {record.source} are unusable.')
    return output.numpy()


def _float16_result(network: nn.Module, record: NetworkRecord, batch: Tensor) -> np.ndarray:
    try:
        return _run(network, batch).numpy()
    except Exception as error:
        raise RequestError(
            f'{record.options["type"]} fails in float16 ({_first_line(error)}); leave --fp16 out.'
        ) from error


def _scale(record: NetworkRecord, pictures: Sequence[Tensor], outputs: Sequence[np.ndarray]) -> int:
    scale = outputs[0].shape[-1] // pictures[0].shape[-1]
    for batch, output in zip(pictures, outputs, strict=True):
        b, _, h, w = batch.shape
        if (b, scale * h, scale * w) != (output.shape[0], *output.shape[2:]):
            raise RequestError(
                f'{record.options["type"]} maps {tuple(batch.shape)} to {output.shape}, which is not a whole multiple '
                'of the size; it cannot be exported.'
            )
    return scale


def _smallest_traced(network: nn.Module) -> int:
    """torch 2.8 proves the extension's sizes only above the least one; the model itself takes smaller pictures, too."""
    return network.least + 1 if isinstance(network, PaddedNetwork) else 0


def _traced(network: nn.Module, example: Tensor, record: NetworkRecord, opset: int, *, is_free: bool) -> Any:
    """The model as onnx's ModelProto, with named free sizes, or with the example's."""
    smallest = _smallest_traced(network)
    sides = {axis: torch.export.Dim(name, min=smallest) for axis, name in ((2, 'height'), (3, 'width'))}
    free = {0: torch.export.Dim('batch'), **sides}
    try:
        with torch.no_grad(), _NoConversionsToTheSameType(), _quiet():
            program = torch.onnx.export(
                network, (example,), dynamo=True, dynamic_shapes=(free,) if is_free else None, opset_version=opset,
                input_names=[INPUT], output_names=[OUTPUT], verbose=False,
            )  # fmt: skip
    except Exception as error:
        raise RequestError(
            f'{record.options["type"]} cannot be exported to ONNX{" for pictures of any size" * is_free}: '
            f'{_first_line(error.__cause__ or error)}{_ADVICE * is_free}'
        ) from error
    assert program is not None
    model = program.model_proto
    written = next(each.version for each in model.opset_import if each.domain == '')
    if written != opset:
        raise RequestError(
            f'{record.options["type"]} has layers that opset {opset} does not have; leave --opset out, or give '
            f'{written}.'
        )
    return model


class _NoConversionsToTheSameType(TorchFunctionMode):
    """Leaves out `x.type_as(y)` where x has y's type, as SwinIR writes it for its mean.

    The exporter of torch 2.8 leaves it out too, but then gives the weight the name of the result, and fails.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.type_as and (args[0].dtype, args[0].device) == (args[1].dtype, args[1].device):
            return args[0]
        return func(*args, **(kwargs or {}))


def _sum_in_float32(model: Any) -> None:
    """Adds casts to float32 around means and sums: over a large picture, a sum in float16 can overflow."""
    from onnx import TensorProto, helper

    # only float16 values need the casts
    types = {each.name: each.type.tensor_type.elem_type for each in model.graph.value_info}
    nodes = []
    for node in model.graph.node:
        if node.op_type not in _FLOAT32_SUMS or types.get(node.input[0]) != TensorProto.FLOAT16:
            nodes.append(node)
            continue
        source, result = node.input[0], node.output[0]
        node.input[0], node.output[0] = f'{result}_float32_terms', f'{result}_float32'
        nodes += [
            helper.make_node('Cast', [source], [node.input[0]], f'{node.name}_to_float32', to=TensorProto.FLOAT),
            node,
            helper.make_node('Cast', [node.output[0]], [result], f'{node.name}_to_float16', to=TensorProto.FLOAT16),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _write(model: Any, facts: dict[str, str], path: Path) -> None:
    import onnx

    for part in (*model.graph.node, *model.graph.initializer, *model.graph.value_info):
        del part.metadata_props[:]  # remove the exporter's notes: source lines, and paths of this machine
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    try:
        path.write_bytes(model.SerializeToString())
    except ValueError as error:  # protobuf's limit of 2 GiB
        raise RequestError(f'the model is too large for one file ({error}); --fp16 halves its size.') from error


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as exceptions
    options.intra_op_num_threads = usable_cores()
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def _computed(session: Any, batch: Tensor, record: NetworkRecord, *, is_free: bool) -> np.ndarray:
    try:
        return session.run([OUTPUT], {INPUT: batch.numpy()})[0]
    except Exception as error:
        raise RequestError(
            f'{record.options["type"]}{" works only at the traced size" * is_free}: the model fails in onnxruntime at '
            f'{tuple(batch.shape)} ({_first_line(error)}){_ADVICE * is_free}'
        ) from error


def _compare(which: str, found: np.ndarray, expected: np.ndarray, batch: Tensor, precision: str) -> float:
    """The largest difference; raises a WorkError if it is too large."""
    if found.shape != expected.shape:
        raise WorkError(
            f'{which}: {found.shape} for {tuple(batch.shape)}, expected {expected.shape}; nothing was saved.'
        )
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    if not difference <= TOLERANCE[precision]:  # also rejects nan
        raise WorkError(
            f'{which}: the output for {tuple(batch.shape)} differs from float32 in torch by up to '
            f'{255 * difference:.3g} grey levels, and {255 * TOLERANCE[precision]:g} is allowed for {precision}; '
            f'nothing was saved.{" Leave --fp16 out." if precision == "fp16" else ""}'
        )
    return difference


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's notes; errors are raised as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition('\n')[0][:300] or type(error).__name__

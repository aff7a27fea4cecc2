"""`scripts/export_onnx.py`: what onnxruntime computes with the model, and what is kept when it is not torch's."""

import runpy
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from basicsr.archs import build_network
from skimage import data
from torch import nn
from torch.nn import functional

from pdan_plugin.archs import PDAN
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.restoration import load_trained_network
from pdan_plugin.restoration.receptive_field import network_shape
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.restoration.tiling import reflected
from pdan_plugin.weights.network_export import export_network
from pdan_plugin.weights.onnx_export import export_onnx
from pdan_plugin.weights.padded_network import PaddedNetwork, padded_if_needed
from pdan_plugin.weights.trained_network import NetworkRecord, save_trained_network

SMALL = {'num_feat': 16, 'num_group': 1, 'num_block': 1, 'fuse_levels': 1, 'deblur_branch': False}
RECORD = NetworkRecord({'type': 'PDAN', **SMALL}, Path('small.yml'), 'small', 8, 'params_ema')
EXPORT = Path(__file__).parents[2] / 'scripts/export_onnx.py'


@pytest.fixture
def weights(tmp_path):
    """A small PDAN as safetensors that say so."""
    network = PDAN(**SMALL).eval().requires_grad_(False)
    save_trained_network(network, RECORD, tmp_path / 'small.safetensors')
    return tmp_path / 'small.safetensors'


def photos(b, h, w):
    rgb = np.stack([data.astronaut()[20 * index : 20 * index + h, 100 : 100 + w] for index in range(b)])
    return torch.from_numpy(rgb.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def largest_difference(model, network, *sizes):
    session = onnxruntime.InferenceSession(str(model), providers=['CPUExecutionProvider'])
    differences = []
    for size in sizes:
        with torch.no_grad():
            expected = network(photos(*size)).numpy()
        (found,) = session.run(None, {'input': photos(*size).numpy()})
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        differences.append(np.abs(found - expected).max())
    return max(differences)


def runtimes(model):
    """Functions that compute the model: onnxruntime's first, then OpenVINO's."""
    session = onnxruntime.InferenceSession(str(model), providers=['CPUExecutionProvider'])
    yield lambda batch: session.run(None, {'input': batch.numpy()})[0]
    openvino = pytest.importorskip('openvino', reason='pip install openvino')
    compiled = openvino.compile_model(str(model), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    yield lambda batch: compiled(batch.numpy())[0]


def test_a_model_takes_any_size_and_says_what_it_is(weights, tmp_path, capsys):
    main = runpy.run_path(str(EXPORT))['main']
    assert main([str(weights), '-o', str(tmp_path / 'new/small.onnx')]) == 0
    assert 'small.onnx' in capsys.readouterr().out.splitlines()[-1]
    model = tmp_path / 'new/small.onnx'
    assert largest_difference(model, load_trained_network(weights), (1, 40, 56), (3, 31, 17), (2, 1, 1)) < 0.1 / 255
    loaded = onnx.load(model)
    facts = {each.key: each.value for each in loaded.metadata_props}
    assert (facts['scale'], facts['color_order'], facts['value_range']) == ('4', 'RGB', '[0, 1]')
    assert (facts['name'], facts['iteration'], facts['precision']) == ('small', '8', 'fp32')
    assert loaded.opset_import[0].version == 18
    assert str(EXPORT.parents[1]).encode() not in model.read_bytes()  # no source lines of where it was made
    assert [path.name for path in model.parent.iterdir()] == ['small.onnx']


def test_float16_stays_within_a_grey_level(weights, tmp_path):
    export_network(weights, tmp_path / 'small16.onnx', float16=True)
    network = load_trained_network(weights)
    assert largest_difference(tmp_path / 'small16.onnx', network, (1, 40, 56), (2, 31, 17)) < 1 / 255
    graph = onnx.load(tmp_path / 'small16.onnx').graph
    types = {each.name: each.data_type for each in graph.initializer}
    wide = [name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT and name.endswith('.weight')]
    assert wide == ['conv_last.weight']
    # a mean of a large picture is beyond float16 before it is divided
    casts = {node.output[0] for node in graph.node if node.op_type == 'Cast' and node.attribute[0].i == 1}
    means = [node for node in graph.node if node.op_type == 'ReduceMean']
    assert means
    assert all(node.input[0] in casts for node in means)


def test_a_network_of_the_toolbox_exports(tmp_path):
    options = {'type': 'MSRResNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 4}
    network = build_network(dict(options)).eval().requires_grad_(False)  # its long skip resizes the picture
    export_onnx(network, NetworkRecord(options, tmp_path), tmp_path / 'it.onnx', tell=lambda line: None)
    assert largest_difference(tmp_path / 'it.onnx', network, (1, 40, 56), (3, 31, 17)) < 0.1 / 255


def test_openvino_computes_the_same(weights, tmp_path):
    openvino = pytest.importorskip('openvino', reason='pip install openvino')
    export_network(weights, tmp_path / 'small.onnx')
    compiled = openvino.compile_model(str(tmp_path / 'small.onnx'), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    network = load_trained_network(weights)
    for size in ((1, 40, 56), (3, 31, 17), (1, 8, 8)):
        with torch.no_grad():
            expected = network(photos(*size)).numpy()
        np.testing.assert_allclose(compiled(photos(*size).numpy())[0], expected, atol=0.1 / 255)


@pytest.mark.parametrize('multiple', [2, 5])
def test_a_picture_is_extended_by_reflection_as_in_restore(multiple):
    """Also a picture that is smaller than what is added."""
    network = PaddedNetwork(nn.Upsample(scale_factor=2), multiple, 2)
    for h, w in ((6, 7), (1, 2), (2, 3), (10, 5)):
        picture = torch.rand(1, 3, h, w)
        sides = [multiple * -(-side // multiple) for side in (h, w)]
        rows, columns = (torch.from_numpy(reflected(0, *pair)) for pair in zip(sides, (h, w), strict=True))
        whole = {}
        network.network.register_forward_pre_hook(lambda _, inputs, kept=whole: kept.update(x=inputs[0]))
        assert torch.equal(network(picture), nn.Upsample(scale_factor=2)(picture))
        assert torch.equal(whole['x'], picture[..., rows, :][..., columns])


RRDBNET = {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'scale': 2, 'num_feat': 8, 'num_block': 1,
           'num_grow_ch': 4}  # fmt: skip


def test_a_network_of_multiples_is_exported_with_the_extension_inside(tmp_path):
    """At every size the model computes what `basicsr restore` does."""
    network = build_network(dict(RRDBNET)).eval().requires_grad_(False)
    export_onnx(network, NetworkRecord(RRDBNET, tmp_path), tmp_path / 'it.onnx', tell=lambda line: None)
    restorer = Restorer(network, 'cpu')
    for compute in runtimes(tmp_path / 'it.onnx'):
        for size in ((1, 40, 56), (3, 31, 17), (1, 3, 2)):
            np.testing.assert_allclose(compute(photos(*size)), restorer(photos(*size)).numpy(), atol=0.1 / 255)


class Reflecting(nn.Module):
    """Takes multiples of a number, and no picture of less than 10 pixels: it extends by 9 by reflection."""

    def __init__(self, multiple):
        super().__init__()
        self.down = nn.Conv2d(3, 8, multiple, multiple)
        self.up = nn.ConvTranspose2d(8, 3, multiple, multiple)

    def forward(self, x):
        return self.up(self.down(functional.pad(x, (9, 9, 9, 9), 'reflect')[..., 9:-9, 9:-9]))


@pytest.mark.parametrize('multiple', [1, 4, 32])
def test_pictures_below_the_least_size_of_the_network_are_extended_inside(multiple, tmp_path):
    """In restore's way; a multiple may be larger than the pictures that are tried."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Reflecting(multiple).eval().requires_grad_(False)
    record = NetworkRecord({'type': 'Reflecting'}, tmp_path)
    export_onnx(network, record, tmp_path / 'it.onnx', tell=lambda line: None)
    restorer = Restorer(network, 'cpu')
    for compute in runtimes(tmp_path / 'it.onnx'):
        for size in ((1, 1, 1), (2, 3, 2), (1, 9, 40), (1, 37, 5), (1, 10, 10), (1, 33, 47)):
            np.testing.assert_allclose(compute(photos(*size)), restorer(photos(*size)).numpy(), atol=0.1 / 255)


def test_a_model_of_one_size_extends_its_small_picture(tmp_path):
    network = Reflecting(4).eval().requires_grad_(False)
    record = NetworkRecord({'type': 'Reflecting'}, tmp_path)
    export_onnx(network, record, tmp_path / 'it.onnx', size=(5, 13), tell=lambda line: None)
    for compute in runtimes(tmp_path / 'it.onnx'):
        expected = Restorer(network, 'cpu')(photos(1, 5, 13)).numpy()
        np.testing.assert_allclose(compute(photos(1, 5, 13)), expected, atol=0.1 / 255)


SWINIR = {'type': 'SwinIR', 'upscale': 2, 'in_chans': 3, 'img_size': 16, 'window_size': 8, 'img_range': 1.0,
          'depths': [2], 'embed_dim': 12, 'num_heads': [2], 'mlp_ratio': 2,
          'upsampler': 'pixelshuffledirect'}  # fmt: skip


@pytest.fixture
def windowed(tmp_path):
    """A small SwinIR as safetensors, with weights large enough that its attention masks are visible in the result."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(dict(SWINIR)).eval().requires_grad_(False)
        for name, parameter in network.layers.named_parameters():
            if name.endswith('weight') and parameter.dim() == 2:
                parameter.normal_(std=0.3)
    save_trained_network(network, NetworkRecord(SWINIR, tmp_path), tmp_path / 'swinir.safetensors')
    return tmp_path / 'swinir.safetensors'


@pytest.mark.parametrize(('size', 'words'), [((29, 43), ()), ((43, 5), ()), ((29, 43), ('--fp16',))])
def test_a_network_of_windows_is_exported_for_one_size_with_the_extension_inside(windowed, tmp_path, size, words):
    """At sizes that no window divides, the model's picture is that of `basicsr restore`."""
    main = runpy.run_path(str(EXPORT))['main']
    command = [str(windowed), '-o', str(tmp_path / 'it.onnx'), '--size', *(str(side) for side in size), *words]
    assert main(command) == 0
    picture = photos(1, *size)
    restored = Restorer(load_trained_network(windowed), 'cpu').restore_picture(
        (picture[0] * 255).round().byte().permute(1, 2, 0).numpy()
    )
    assert restored.shape == (2 * size[0], 2 * size[1], 3)
    for compute in runtimes(tmp_path / 'it.onnx'):
        found = (compute(picture)[0].clip(0, 1) * 255).round().transpose(1, 2, 0)
        np.testing.assert_allclose(found, restored, atol=1)
        with pytest.raises(Exception, match=r'(?i)dimension|shape'):
            compute(photos(1, 24, 40))


def test_a_network_of_windows_needs_a_size(windowed, tmp_path):
    with pytest.raises(RequestError, match=r'SwinIR computes in windows.*--size HEIGHT WIDTH'):
        export_network(windowed, tmp_path / 'it.onnx')
    for name, size, complaint in (
        ('it.onnx', (0, 40), '--size 0 40: expected a height and a width of at least 1'),
        ('it.safetensors', (24, 40), '--size is for an ONNX model'),
    ):
        with pytest.raises(RequestError, match=complaint):
            export_network(windowed, tmp_path / name, size=size)
    assert [path.name for path in tmp_path.iterdir()] == ['swinir.safetensors']


class OfSplits(nn.Module):
    """Takes multiples of 12: the larger of its windows, which lie in a list under a name that is not `window_size`."""

    split_size = (6, 12)

    def forward(self, x):
        return functional.pixel_shuffle(functional.pixel_unshuffle(x, 12), 12)


def test_the_export_extends_to_the_multiple_that_restore_finds():
    network = OfSplits()
    padded = padded_if_needed(network, 3)
    assert isinstance(padded, PaddedNetwork)
    assert padded.multiple == network_shape(network, network).multiple == 12


@pytest.mark.parametrize('channels', [1, 4])
def test_channels_that_no_option_tells_are_found(channels, tmp_path):
    """Other projects call them `in_channels`, `img_channel` or `in_nc`."""
    network = nn.Conv2d(channels, channels, 3, padding=1).eval().requires_grad_(False)
    record = NetworkRecord({'type': 'Convolution', 'in_nc': channels}, tmp_path)
    export_onnx(network, record, tmp_path / 'it.onnx', tell=lambda line: None)
    batch = torch.rand(2, channels, 9, 7)
    session = onnxruntime.InferenceSession(str(tmp_path / 'it.onnx'), providers=['CPUExecutionProvider'])
    found = session.run(None, {'input': batch.numpy()})[0]
    np.testing.assert_allclose(found, network(batch).numpy(), atol=1e-5)


class Random(nn.Module):
    """Computes something else each time."""

    def forward(self, x):
        return x + torch.rand_like(x)


class OfMultiples(nn.Module):
    """Takes no size that is tried, in torch either."""

    def forward(self, x):
        return functional.pixel_shuffle(functional.pixel_unshuffle(x, 11), 11)


class BoundToSize(nn.Module):
    """Its parameters are for one size."""

    def forward(self, x):
        return x + torch.zeros(24, 40) if x.shape[-1] == 40 else x


@pytest.mark.parametrize(
    ('network', 'error', 'complaint'),
    [
        (Random(), WorkError, 'differs from float32 in torch by up to .* grey levels.*nothing was saved'),
        (OfMultiples(), RequestError, r'with input \(1, 3, 32, 48\) fails in torch'),
        (BoundToSize(), RequestError, 'any size'),
    ],
)
def test_what_is_not_torchs_is_not_kept(network, error, complaint, tmp_path):
    (tmp_path / 'it.onnx').write_text('of yesterday')
    record = NetworkRecord({'type': type(network).__name__}, tmp_path)
    with pytest.raises(error, match=complaint):
        export_onnx(network, record, tmp_path / 'it.onnx', tell=lambda line: None)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [('it.onnx', 'of yesterday')]


def test_weights_beyond_float16_are_refused_by_name(tmp_path):
    network = PDAN(**SMALL)
    with torch.no_grad():
        network.conv_first.weight[0, 0, 0, 0] = 1e5
    save_trained_network(network, RECORD, tmp_path / 'large.safetensors')
    for name in ('large.onnx', 'large16.safetensors'):
        with pytest.raises(RequestError, match=r'conv_first\.weight holds 1e\+05'):
            export_network(tmp_path / 'large.safetensors', tmp_path / name, float16=True)
    assert [path.name for path in tmp_path.iterdir()] == ['large.safetensors']


@pytest.mark.parametrize(
    ('output', 'opset', 'complaint'),
    [
        ('small.pth', None, r'\.onnx or \.safetensors'),
        ('small.safetensors', None, 'is also the weights file'),
        ('other.safetensors', 18, '--opset is for an ONNX model'),
        ('small.onnx', 9, '18 to 23'),
        ('folder.onnx', None, 'is a folder'),
        ('small.safetensors/it.onnx', None, 'cannot be written'),
    ],
)
def test_wrong_requests_write_nothing(weights, tmp_path, output, opset, complaint):
    (tmp_path / 'folder.onnx').mkdir()
    with pytest.raises(RequestError, match=complaint):
        export_network(weights, tmp_path / output, opset=opset)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['folder.onnx', 'small.safetensors']


def test_a_missing_package_is_named_with_its_command(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(RequestError, match=r'onnxscript: pip install "pdan-plugin\[onnx\]"'):
        export_network(weights, tmp_path / 'small.onnx')

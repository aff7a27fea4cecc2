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
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.restoration.tiling import reflected
from pdan_plugin.weights.network_export import export_network
from pdan_plugin.weights.onnx_export import export_onnx
from pdan_plugin.weights.padded_network import PaddedNetwork
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
    for size in ((1, 40, 56), (3, 31, 17), (1, 3, 2)):
        session = onnxruntime.InferenceSession(str(tmp_path / 'it.onnx'), providers=['CPUExecutionProvider'])
        (found,) = session.run(None, {'input': photos(*size).numpy()})
        np.testing.assert_allclose(found, restorer(photos(*size)).numpy(), atol=0.1 / 255)


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

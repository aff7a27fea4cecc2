"""The fast pieces compute what their plain form computes, in either layout, forward and backward."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from pdan_plugin.archs import fast_layers
from pdan_plugin.archs.fast_layers import (
    convolved_and_shuffled,
    float32_convolution,
    gated_residual,
    in_bands,
    projection,
    spatial_mean,
)
from pdan_plugin.archs.pdan_arch import PDAN, AttentionBlock

LAYOUTS = pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=['nchw', 'nhwc'])


def leaves(layout, *shapes, dtype=torch.float64):
    tensors = [torch.randn(shape, dtype=dtype).to(memory_format=layout) for shape in shapes]
    return [tensor.requires_grad_() for tensor in tensors]


def same(fast, plain, inputs):
    """Values and gradients of two functions of the same inputs agree."""
    results = [function(*inputs) for function in (fast, plain)]
    torch.testing.assert_close(*results)
    weights = torch.randn_like(results[0])
    gradients = [torch.autograd.grad((result * weights).sum(), inputs) for result in results]
    torch.testing.assert_close(*gradients)
    return results[0]


@LAYOUTS
def test_gated_residual(layout):
    inputs = leaves(layout, (2, 6, 5, 7), (2, 6, 5, 7), (2, 6, 1, 1), (2, 1, 5, 7))
    result = same(gated_residual, lambda x, u, c, s: x + u * (c + s), inputs)
    assert result.is_contiguous(memory_format=layout)


@pytest.mark.parametrize('rows', [1, 2, 5])
def test_gated_residual_in_use_goes_by_rows_and_leaves_what_goes_round_it(rows, monkeypatch):
    monkeypatch.setattr(fast_layers, '_CACHED', 2 * 6 * 7 * rows)
    x, branch, channel_gate, spatial_gate = leaves(
        torch.channels_last, (2, 6, 5, 7), (2, 6, 5, 7), (2, 6, 1, 1), (2, 1, 5, 7)
    )
    expected, before = x + branch * (channel_gate + spatial_gate), x.clone()
    with torch.inference_mode():
        result = gated_residual(x.clone(), branch.clone(), channel_gate, spatial_gate)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(x, before)


def test_gated_residual_keeps_no_gate_of_the_features_size():
    inputs = leaves(torch.channels_last, (2, 6, 5, 7), (2, 6, 5, 7), (2, 6, 1, 1), (2, 1, 5, 7))
    kept = []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor.data_ptr()) or tensor, lambda tensor: tensor):
        gated_residual(*inputs)
    assert kept == [tensor.data_ptr() for tensor in inputs[1:]]


@LAYOUTS
@pytest.mark.parametrize('factor', [2, 3])
@pytest.mark.parametrize('bias', [True, False])
def test_convolved_and_shuffled(layout, factor, bias):
    convolution = nn.Conv2d(4, 4 * factor**2, 3, padding=1, bias=bias).double()
    (features,) = leaves(layout, (2, 4, 5, 6))

    def with_weights(function):
        return lambda x, *weights: function(x)

    result = same(
        with_weights(lambda x: convolved_and_shuffled(convolution, x, factor)),
        with_weights(lambda x: functional.pixel_shuffle(convolution(x), factor)),
        [features, *convolution.parameters()],
    )
    assert result.is_contiguous(memory_format=layout)


def test_float32_convolution_rounds_nothing_but_its_gradients():
    convolution = nn.Conv2d(8, 3, 3, padding=1)
    features = torch.randn(2, 8, 9, 10).bfloat16().requires_grad_()
    exact = convolution(features.float())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        result = float32_convolution(convolution, features)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, exact, rtol=0, atol=0)

    wanted = [features, *convolution.parameters()]
    weights = torch.randn_like(result)
    gradients = torch.autograd.grad((result * weights).sum(), wanted)
    expected = torch.autograd.grad((exact * weights).sum(), wanted)
    for gradient, plain, tensor in zip(gradients, expected, wanted, strict=True):
        assert gradient.dtype == tensor.dtype
        scale = plain.abs().max()
        torch.testing.assert_close(gradient / scale, plain / scale, rtol=0, atol=2e-2)


def test_float32_convolution_keeps_the_features_as_they_came():
    convolution = nn.Conv2d(8, 3, 3, padding=1)
    features = torch.randn(2, 8, 9, 10).bfloat16().requires_grad_()
    kept = []
    with (
        torch.autocast('cpu', dtype=torch.bfloat16),
        saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor),
    ):
        float32_convolution(convolution, features)
    assert [tensor.dtype for tensor in kept if tensor.dim() == 4 and tensor.shape[0] == 2] == [torch.bfloat16]


def test_float32_convolution_is_the_plain_one_without_autocast():
    convolution = nn.Conv2d(8, 3, 3, padding=1)
    features = torch.randn(2, 8, 9, 10)
    assert torch.equal(float32_convolution(convolution, features), convolution(features))


@LAYOUTS
@pytest.mark.parametrize('upscale', [2, 3, 4, 8])
def test_the_end_of_a_network_in_bands_has_no_seams(layout, upscale, monkeypatch):
    monkeypatch.setattr('pdan_plugin.archs.fast_layers._FEWEST_ROWS', 3)
    monkeypatch.setattr('pdan_plugin.archs.fast_layers._BAND', 1)
    network = PDAN(num_feat=8, num_group=1, num_block=1, squeeze_factor=2, fuse_levels=0, upscale=upscale).double()
    (features,) = leaves(layout, (2, 8, 11, 5))
    heights = []
    network.conv_last.register_forward_pre_hook(lambda _, inputs: heights.append(inputs[0].shape[2]))
    with torch.inference_mode():
        banded = in_bands(network._tail, features.detach(), upscale, reach=2)
    assert heights == [5 * upscale, 7 * upscale, 7 * upscale, 4 * upscale]
    torch.testing.assert_close(banded, network._tail(features).detach())


@LAYOUTS
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_in_use_the_mean_and_the_projection_are_the_same(layout, dtype):
    convolution = nn.Conv2d(12, 2, 1).to(dtype)
    features = (torch.randn(2, 12, 30, 50) + 1).to(dtype).to(memory_format=layout)
    with torch.inference_mode():
        mean, projected = spatial_mean(features), projection(convolution, features)
        torch.testing.assert_close(mean.float(), features.float().mean((2, 3), keepdim=True), rtol=1e-2, atol=1e-5)
        torch.testing.assert_close(projected, convolution(features))


PDANS = [{}, {'attention': 'ca', 'fuse_levels': 0}]


def traced(options, picture, layout, gradients):
    network = PDAN(num_feat=16, num_group=1, num_block=1, deblur_branch=False, **{'fuse_levels': 1, **options}).eval()
    with torch.set_grad_enabled(gradients):
        return network, torch.jit.trace(network, picture.contiguous(memory_format=layout), check_trace=False)


@pytest.mark.parametrize('options', PDANS)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('gradients', [False, True])
def test_a_tracer_gets_the_plain_form(options, layout, gradients):
    """Without `out=`, which other programs' converters do not know; the traced network is the same at another size."""
    network, program = traced(options, torch.rand(1, 3, 20, 28), layout, gradients)
    written = [node.schema() for node in program.inlined_graph.nodes() if '.out(' in node.schema()]
    assert written == []
    other = torch.rand(2, 3, 33, 17)
    with torch.no_grad():
        torch.testing.assert_close(program(other), network(other), atol=1e-5, rtol=0)
        recorded = make_fx(network)(other)
        torch.testing.assert_close(recorded(other), network(other), atol=1e-5, rtol=0)
    assert [str(node.target) for node in recorded.graph.nodes if str(node.target).endswith('.out')] == []


@pytest.mark.parametrize('options', PDANS)
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_transforms_of_torch_func_get_the_plain_form(options, dtype):
    network = PDAN(num_feat=16, num_group=1, num_block=1, deblur_branch=False, **{'fuse_levels': 1, **options})
    parameters, pictures = dict(network.named_parameters()), torch.rand(2, 3, 12, 10)

    def loss(values, picture):
        with torch.autocast('cpu', dtype, enabled=dtype is not None):
            return torch.func.functional_call(network, values, (picture[None],)).float().square().mean()

    by_picture = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, pictures)
    for number, picture in enumerate(pictures):
        expected = torch.autograd.grad(loss(parameters, picture), list(parameters.values()))
        largest = max(float(gradient.abs().max()) for gradient in expected)
        bound = {} if dtype is None else {'rtol': 0, 'atol': 0.03 * largest}
        for found, gradient in zip(by_picture.values(), expected, strict=True):
            torch.testing.assert_close(found[number], gradient, **bound)


@pytest.mark.parametrize('attention', ['rsca', 'ca'])
def test_a_compiler_gets_a_block_in_one_piece(attention, monkeypatch):
    """`fullgraph` raises where the code must be cut. A mock of CUDA: there, too, a compiler gets the plain form."""
    block, x = AttentionBlock(16, 4, attention), torch.randn(1, 16, 5, 7)
    expected = torch.autograd.grad(block(x).square().sum(), block.conv1.weight)
    monkeypatch.setattr('pdan_plugin.archs.fused_choice.DEVICE_TYPES', ('cpu',))
    compiled = torch.compile(block, fullgraph=True, backend='eager')
    torch.testing.assert_close(torch.autograd.grad(compiled(x).square().sum(), block.conv1.weight), expected)


@pytest.mark.parametrize('options', PDANS)
def test_openvino_converts_the_traced_network(options):
    openvino = pytest.importorskip('openvino', reason='pip install openvino')
    network, program = traced(options, torch.rand(1, 3, 20, 28), torch.contiguous_format, False)
    model = openvino.convert_model(program, example_input=torch.rand(1, 3, 20, 28))
    compiled = openvino.compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    for size in ((1, 3, 20, 28), (2, 3, 33, 17)):
        picture = torch.rand(*size)
        with torch.no_grad():
            np.testing.assert_allclose(compiled(picture.numpy())[0], network(picture).numpy(), atol=0.1 / 255)


@LAYOUTS
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_the_means_gradient_is_the_plain_ones_to_the_bit(layout, dtype):
    for shape in ((2, 6, 5, 7), (1, 3, 1, 1)):
        (features,) = leaves(layout, shape, dtype=dtype)
        fast, plain = spatial_mean(features), features.mean(dim=(2, 3), keepdim=True)
        assert torch.equal(fast, plain)
        weights = torch.randn_like(fast)
        gradients = [torch.autograd.grad((each * weights).sum(), features)[0] for each in (fast, plain)]
        assert torch.equal(*gradients)
        if shape[-1] > 1:
            assert gradients[0].stride()[2:] == (0, 0)  # a view of a number for each channel
            other = torch.zeros_like(features)
            assert (other + gradients[0]).stride() == other.stride()
    assert torch.autograd.gradcheck(spatial_mean, leaves(layout, (2, 3, 4, 5)))


@pytest.mark.parametrize('attention', ['rsca', 'ca'])
def test_the_gradients_of_all_features_stay_channels_last(attention):
    """One in another layout makes each later operation on it ten times as slow."""
    network = PDAN(num_feat=16, num_group=1, num_block=2, fuse_levels=1, attention=attention)
    network = network.to(memory_format=torch.channels_last)
    gradients = {}

    def look(name):
        def hook(module, inputs, output):
            if output.dim() == 4 and output.shape[-1] > 1:
                output.register_hook(lambda gradient: gradients.__setitem__(name, gradient))

        return hook

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(look(name))
    picture = torch.rand(2, 3, 12, 16).contiguous(memory_format=torch.channels_last)
    network(picture).square().sum().backward()
    assert any('conv2' in name for name in gradients)
    astray = [name for name, each in gradients.items() if not each.is_contiguous(memory_format=torch.channels_last)]
    assert not astray

"""PDAN: its size, its relation to RCAN, its two outputs."""

import pytest
import torch
from basicsr.archs.rcan_arch import RCAN
from torch.utils.flop_counter import FlopCounterMode

from pdan_plugin.archs.fast_layers import Float32Conv2d
from pdan_plugin.archs.pdan_arch import PDAN, from_rcan_names

SMALL = {'num_feat': 16, 'num_group': 4, 'num_block': 2, 'squeeze_factor': 2, 'fuse_levels': 2}


def count_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_default_has_the_papers_size():
    with torch.device('meta'):
        network = PDAN(deblur_branch=False)
        with FlopCounterMode(display=False) as counter:
            output = network(torch.empty(1, 3, 180, 320))
    assert count_parameters(network) == 62_389_387
    assert counter.get_total_flops() / 2 == pytest.approx(3.6703e12, rel=1e-4)
    assert output.shape == (1, 3, 720, 1280)


def test_default_fuses_every_second_group():
    with torch.device('meta'):
        assert PDAN().fused_groups == [1, 3, 5, 7, 9]


def test_channel_attention_form_is_rcan():
    toolbox = RCAN(3, 3, num_feat=16, num_group=3, num_block=2, squeeze_factor=4)
    ours = PDAN(
        num_feat=16, num_group=3, num_block=2, squeeze_factor=4, attention='ca', fuse_levels=0, deblur_branch=False
    )
    assert count_parameters(ours) == count_parameters(toolbox)
    ours.load_state_dict(toolbox.state_dict())
    picture = torch.rand(2, 3, 11, 14)
    torch.testing.assert_close(ours(picture), toolbox(picture), rtol=1e-6, atol=1e-6)


def test_key_map_names_every_weight_of_rcan():
    toolbox = RCAN(3, 3, num_feat=16, num_group=2, num_block=2, squeeze_factor=4)
    ours = PDAN(
        num_feat=16, num_group=2, num_block=2, squeeze_factor=4, attention='ca', fuse_levels=0, deblur_branch=False
    )
    assert set(from_rcan_names(toolbox.state_dict())) == set(ours.state_dict())


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (5, 3), (9, 13), (16, 16)])
@pytest.mark.parametrize('upscale', [2, 3, 4])
def test_both_outputs_have_their_size_for_any_input(size, upscale):
    height, width = size
    hr, lr = PDAN(**SMALL, upscale=upscale)(torch.rand(2, 3, height, width), return_lr=True)
    assert hr.shape == (2, 3, upscale * height, upscale * width)
    assert lr.shape == (2, 3, height, width)


def test_return_lr_does_not_change_hr():
    network, picture = PDAN(**SMALL), torch.rand(1, 3, 10, 9)
    torch.testing.assert_close(network(picture, return_lr=True)[0], network(picture), rtol=0, atol=0)


def test_the_gates_are_summed():
    block = PDAN(**SMALL).body[0].blocks[0]
    x = torch.rand(1, 16, 5, 6)
    u = block.conv2(torch.relu(block.conv1(x)))
    channel = torch.sigmoid(
        block.channel_gate.excite(torch.relu(block.channel_gate.squeeze(u.mean((2, 3), keepdim=True))))
    )
    spatial = torch.sigmoid(block.spatial_gate.project(u))
    torch.testing.assert_close(block(x), x + u * channel + u * spatial)


def test_checkpointing_changes_neither_output_nor_gradient():
    plain, checkpointed = PDAN(**SMALL), PDAN(**SMALL, checkpointing=True)
    checkpointed.load_state_dict(plain.state_dict())
    picture = torch.rand(1, 3, 8, 8)
    for network in (plain, checkpointed):
        hr, lr = network(picture, return_lr=True)
        (hr.square().mean() + lr.square().mean()).backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)


def test_the_network_for_use_takes_training_weights():
    trained, used = PDAN(**SMALL), PDAN(**SMALL, deblur_branch=False)
    used.load_state_dict(trained.state_dict())
    picture = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(used(picture), trained(picture), rtol=0, atol=0)
    assert not [name for name in used.state_dict() if 'deblur' in name]
    with pytest.raises(ValueError, match='deblur_branch=False'):
        used(picture, return_lr=True)


def test_other_missing_weights_are_not_forgiven():
    network = PDAN(**SMALL)
    weights = network.state_dict()
    del weights['conv_first.bias']
    with pytest.raises(RuntimeError, match=r'conv_first\.bias'):
        PDAN(**SMALL, deblur_branch=False).load_state_dict(weights)


def test_under_bf16_autocast_only_the_pictures_are_float32():
    network = PDAN(**SMALL)
    dtypes = set()
    for module in network.modules():
        is_layer = isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
        if is_layer and not isinstance(module, Float32Conv2d):
            module.register_forward_hook(lambda _, __, output: dtypes.add(output.dtype))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        hr, lr = network(torch.rand(1, 3, 8, 8), return_lr=True)
    assert dtypes == {torch.bfloat16}
    for picture in (hr, lr):
        assert picture.dtype == torch.float32
        assert not torch.equal(picture, picture.bfloat16().float())


def test_a_picture_of_other_channels_is_refused():
    with pytest.raises(ValueError, match=r'\(1, 1, 8, 8\)'):
        PDAN(**SMALL)(torch.rand(1, 1, 8, 8))


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        ({'attention': 'cbam'}, 'attention'),
        ({'fuse_levels': 5, 'num_group': 4}, 'fuse_levels'),
        ({'num_feat': 30}, 'num_feat'),
        ({'num_in_ch': 1}, 'num_in_ch'),
        ({'upscale': 1}, 'upscale'),
        ({'squeeze_factor': 0}, 'squeeze_factor'),
        ({'img_range': 0}, 'img_range'),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        PDAN(**arguments)

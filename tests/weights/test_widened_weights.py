"""scripts/widen_pdan.py: a wider PDAN with the same function, whose new channels can be trained."""

import pytest
import torch

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.weights.trained_network import load_trained_network
from widen_pdan import main, widened

OPTIONS = {'num_feat': 8, 'num_group': 2, 'num_block': 1, 'squeeze_factor': 4, 'fuse_levels': 2}


def test_the_wider_network_has_the_same_function_and_all_of_it_can_be_trained():
    torch.manual_seed(1)
    network = PDAN(**OPTIONS, deblur_branch=False)
    wide = widened(network, OPTIONS, 16)
    picture = torch.rand(1, 3, 9, 14)
    torch.testing.assert_close(wide(picture), network(picture), rtol=0, atol=1e-5)
    optimizer = torch.optim.SGD(wide.parameters(), 1e-4)
    for _ in range(2):  # a channel that nothing reads yet has no gradient before the first step
        optimizer.zero_grad()
        wide(picture).square().mean().backward()
        optimizer.step()
    new = {name: weight.grad[weight.shape[0] // 2 :] for name, weight in wide.named_parameters() if weight.shape[0] > 3}
    assert len(new) > 10
    assert not [
        name for name, gradient in new.items() if not gradient.any() and 'channel_gate' not in name
    ]  # its ReLU may be off


def test_the_packaged_weights_are_widened_and_recorded(tmp_path):
    assert main(['pdan_small', str(tmp_path / 'wide.safetensors'), '--num-feat', '80']) == 0
    wide, small = load_trained_network(tmp_path / 'wide.safetensors'), load_trained_network('pdan_small')
    assert wide.conv_first.out_channels == 80
    picture = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(wide(picture), small(picture), rtol=0, atol=1e-4)


def test_a_file_that_is_there_is_not_touched(tmp_path, capsys):
    (tmp_path / 'wide.safetensors').write_bytes(b'weeks of work')
    assert main(['pdan_small', str(tmp_path / 'wide.safetensors'), '--num-feat', '80']) == 2
    assert 'exists already' in capsys.readouterr().err
    assert (tmp_path / 'wide.safetensors').read_bytes() == b'weeks of work'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['pdan_small', 'w.safetensors', '--num-feat', '16'], 'already; give more'),
        (['pdan_small', 'w.safetensors', '--num-feat', '97'], 'multiple of squeeze_factor'),
        (['pdan_small', 'w.pth', '--num-feat', '96'], 'ends in .safetensors'),
    ],
)
def test_what_cannot_be_widened_is_refused(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

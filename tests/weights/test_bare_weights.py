"""Weights that no option file goes with: the network is read from the names and shapes of their tensors."""

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from basicsr.archs.rcan_arch import RCAN
from basicsr.archs.rrdbnet_arch import RRDBNet
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.archs.srvgg_arch import SRVGGNetCompact
from basicsr.archs.swinir_arch import SwinIR
from drn_of_its_authors import AuthorsDRN
from safetensors.torch import save_file
from skimage import data

from pdan_plugin.archs import DRN, PDAN
from pdan_plugin.commands.main import main
from pdan_plugin.errors import RequestError
from pdan_plugin.weights import bare_weights
from pdan_plugin.weights.packaged_weights import packaged_weights
from pdan_plugin.weights.trained_network import load_recorded_network, load_trained_network, save_trained_network

SMALL = {'num_feat': 8, 'num_group': 3, 'num_block': 2, 'squeeze_factor': 4, 'fuse_levels': 2}
WINDOWS = {'embed_dim': 12, 'num_heads': [2, 3], 'mlp_ratio': 2}
# network -> arguments that differ from the constructor's defaults
CASES = [
    (PDAN, SMALL),
    (PDAN, SMALL | {'upscale': 3, 'attention': 'ca', 'fuse_levels': 0, 'deblur_branch': False}),
    (PDAN, SMALL | {'upscale': 8, 'squeeze_factor': 8, 'fuse_levels': 3}),
    (PDAN, SMALL | {'num_in_ch': 1, 'num_out_ch': 1, 'rgb_mean': [0.43], 'upscale': 2}),
    (DRN, {'num_feat': 8, 'num_block': 2, 'squeeze_factor': 8}),
    (DRN, {'num_feat': 8, 'num_block': 1, 'squeeze_factor': 3, 'upscale': 2}),
    (RCAN, {'num_feat': 8, 'num_group': 2, 'num_block': 3, 'squeeze_factor': 2, 'upscale': 2}),
    (EDSR, {'num_feat': 8, 'num_block': 3, 'upscale': 3}),
    (EDSR, {'num_feat': 8, 'num_block': 2, 'upscale': 1}),
    (SRVGGNetCompact, {'num_feat': 8, 'num_conv': 4, 'upscale': 4}),
    (SRVGGNetCompact, {'num_feat': 8, 'num_conv': 2, 'upscale': 1, 'act_type': 'leakyrelu'}),
    (RRDBNet, {'num_feat': 8, 'num_block': 2, 'num_grow_ch': 4, 'scale': 4}),
    (RRDBNet, {'num_feat': 8, 'num_block': 1, 'num_grow_ch': 8, 'scale': 2}),
    (RRDBNet, {'num_feat': 8, 'num_block': 1, 'num_grow_ch': 8, 'scale': 1}),
    (SwinIR, WINDOWS | {'img_size': 16, 'window_size': 8, 'depths': [2, 3], 'upscale': 2, 'upsampler': 'pixelshuffle'}),
    (SwinIR, WINDOWS | {'img_size': 16, 'window_size': 4, 'depths': [2, 2], 'upscale': 3, 'qkv_bias': False,
                        'upsampler': 'pixelshuffledirect'}),
    (SwinIR, WINDOWS | {'img_size': 16, 'window_size': 8, 'depths': [2, 1], 'upscale': 4, 'resi_connection': '3conv',
                        'patch_norm': False, 'upsampler': 'nearest+conv'}),
    (SwinIR, WINDOWS | {'img_size': 14, 'in_chans': 1, 'window_size': 7, 'depths': [1, 2], 'upscale': 1,
                        'img_range': 255.0}),
]  # fmt: skip


def built(kind, arguments):
    ends = {'num_in_ch': 3, 'num_out_ch': 3} if kind in (RCAN, EDSR, RRDBNet) else {}
    return kind(**ends, **arguments).eval()


@pytest.fixture
def bare(tmp_path):
    """Writes a network's state, or what ``nested`` makes of it, to a lone file."""

    def write(network, nested=lambda state: state):
        torch.save(nested(network.state_dict()), tmp_path / 'lone.pth')
        return tmp_path / 'lone.pth'

    return write


@pytest.mark.parametrize(('kind', 'arguments'), CASES, ids=lambda value: getattr(value, '__name__', ''))
def test_the_arguments_are_read_from_the_tensors(bare, kind, arguments):
    network = built(kind, arguments)
    found, record = load_recorded_network(bare(network))
    wanted = {name: value for name, value in arguments.items() if name != 'deblur_branch'}
    assert record.options['type'] == kind.__name__
    if kind is not DRN or wanted['squeeze_factor'] == 8:  # several factors may give the same network
        assert {name: record.options[name] for name in wanted} == wanted
    channels = arguments.get('num_in_ch', arguments.get('in_chans', 3))
    side = arguments.get('img_size', 16)
    x = torch.rand(1, channels, side, side)
    with torch.no_grad():
        assert torch.equal(found(x), network(x))


@pytest.mark.parametrize(
    'nested',
    [
        lambda state: {'params': state},
        lambda state: {'params': {name: value * 0 for name, value in state.items()}, 'params_ema': state},
        lambda state: {'state_dict': {f'model.module.{name}': value for name, value in state.items()}, 'epoch': 3},
        lambda state: (
            {f'net_g._orig_mod.{name}': value for name, value in state.items()}
            | {'net_d.conv0.weight': torch.zeros(4, 3, 3, 3)}
        ),
        lambda state: {'n_averaged': torch.tensor(5)} | {f'module.{name}': value for name, value in state.items()},
        lambda state: state | {'total_ops': torch.zeros(1), 'body.0.total_params': torch.zeros(1)},
    ],
    ids=['params', 'params_ema', 'lightning', 'beside a discriminator', 'averaged', 'counted'],
)
@pytest.mark.parametrize(('kind', 'arguments'), [CASES[0], CASES[7], CASES[9]], ids=['PDAN', 'EDSR', 'SRVGG'])
def test_weights_lie_in_any_section_behind_any_prefix(bare, kind, arguments, nested):
    network = built(kind, arguments)
    found = load_trained_network(bare(network, nested))
    x = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        assert torch.equal(found(x), network(x))


def test_the_authors_drn_is_a_drn(bare):
    network = AuthorsDRN(16, 2).eval()
    found, record = load_recorded_network(bare(network))
    assert (record.options['type'], record.options['num_feat'], record.options['num_block']) == ('DRN', 16, 2)
    assert 'rgb_mean' not in record.notes[0]  # it is among the weights
    expected = DRN(num_block=2)
    expected.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        assert torch.equal(found(x), expected(x))


def test_trained_weights_give_a_picture_and_what_they_do_not_show_is_reported(bare):
    trained = load_trained_network('pdan_small')
    found, record = load_recorded_network(bare(trained, lambda state: {'params_ema': state}))
    (note,) = record.notes
    assert note.endswith('taken as usual: img_range 255.0, rgb_mean [0.4488, 0.4371, 0.404]')
    x = torch.from_numpy(data.astronaut()[None, :9, 100:107] / 255).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        assert torch.equal(found(x), trained(x))


def test_the_residual_scale_of_a_large_edsr_is_found_by_a_trial(bare):
    """An EDSR by hand: colours pass through, and its block adds noise, ten times too much at a scale of 1."""
    network = EDSR(3, 3, num_feat=4, num_block=1, upscale=2, res_scale=0.1).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for colour in range(3):
            network.conv_first.weight[colour, colour, 1, 1] = 1
            network.conv_after_body.weight[colour, colour, 1, 1] = 1
            network.upsample[0].weight[4 * colour : 4 * colour + 4, colour, 1, 1] = 0.5
            network.conv_last.weight[colour, colour, 1, 1] = 1
        network.body[0].conv1.bias[3] = 1
        network.body[0].conv2.weight[:3, 3, 1, 1] = 200
    found, record = load_recorded_network(bare(network))
    assert record.options['res_scale'] == 0.1
    assert 'res_scale 0.1 was found by a trial (res_scale 1.0 gives no picture)' in record.notes[0]
    x = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        assert torch.equal(found(x), network(x))


def test_weights_in_whole_numbers_are_refused_also_if_another_package_takes_them(bare):
    weights = bare(
        built(*CASES[7]), lambda state: {name: (100 * value).to(torch.int8) for name, value in state.items()}
    )
    with pytest.raises(RequestError, match=r'lone\.pth: \S+ is torch\.int8, and the network has torch\.float32 there'):
        load_trained_network(weights)


def test_untrained_weights_are_reported(bare):
    notes = load_recorded_network(bare(built(*CASES[0])))[1].notes
    assert 'untrained' in notes[-1]


def test_several_networks_in_a_file_are_not_guessed_between(bare):
    two = {'teacher': built(*CASES[0]).state_dict(), 'student': built(*CASES[7]).state_dict()}
    weights = bare(torch.nn.Identity(), lambda _: two)
    with pytest.raises(RequestError, match=r"several networks: 'teacher' \(PDAN\), 'student' \(EDSR\).*--param-key"):
        load_trained_network(weights)
    found, record = load_recorded_network(weights, param_key='student')
    assert record.options['type'] == 'EDSR'
    assert torch.equal(found.conv_first.weight, two['student']['conv_first.weight'])


@pytest.fixture
def without_spandrel(monkeypatch):
    monkeypatch.setattr(bare_weights, 'find_spandrel', lambda: None)


@pytest.mark.usefixtures('without_spandrel')
@pytest.mark.parametrize(
    ('network', 'words'),
    [
        (MSRResNet(3, 3, num_feat=8, num_block=1), 'none of PDAN, DRN, RCAN, EDSR, SRVGGNetCompact, RRDBNet, SwinIR'),
        (torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3)), "under '0'"),
        (torch.nn.Linear(2, 2), "under 'weight', 'bias'"),
    ],
    ids=['MSRResNet', 'Sequential', 'Linear'],
)
def test_an_unknown_network_names_what_it_is_not(bare, network, words):
    with pytest.raises(RequestError, match=rf'(?s)lone\.pth is not in an.*{words}.*-opt FILE.*pdan-plugin\[spandrel\]'):
        load_trained_network(bare(network))


@pytest.mark.usefixtures('without_spandrel')
@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda state: state.pop('fuse.bias'), r'PDAN: .*fuse\.bias'),
        (lambda state: state.pop('body.1.blocks.1.conv2.weight'), r'PDAN: .*body\.1\.blocks\.1\.conv2\.weight'),
        (lambda state: state.update({'extra.weight': torch.zeros(3)}), r'PDAN: .*extra\.weight'),
        (lambda state: state.pop('upsample.0.weight'), 'PDAN: '),
        (
            lambda state: state.update({'upsample.0.weight': torch.zeros(200, 8, 3, 3)}),
            r'upsample enlarges by \[5, 2\]',
        ),
    ],
)
def test_weights_that_nearly_fit_say_what_does_not(bare, change, words):
    def changed(state):
        state = dict(state)
        change(state)
        return state

    with pytest.raises(RequestError, match=words):
        load_trained_network(bare(built(*CASES[0]), changed))


@pytest.mark.usefixtures('without_spandrel')
@pytest.mark.parametrize(
    'names',
    [
        ['body.0.weight', 'body.2.weight', 'tail.weight'],
        [
            'conv_first.weight',
            'body.0.conv1.weight',
            'body.0.conv2.weight',
            'conv_after_body.weight',
            'conv_last.weight',
        ],
    ],
    ids=['as SRVGG', 'as EDSR'],
)
@pytest.mark.parametrize('shape', [(), (3,), (3, 3), (3, 3, 3, 3), (0, 3, 3, 3)], ids=str)
def test_the_names_of_a_family_with_other_shapes_are_not_it(bare, names, shape):
    state = {name: torch.zeros(shape) for name in names}
    with pytest.raises(RequestError, match=r'lone\.pth is not in an experiment folder.*It is none of'):
        load_trained_network(bare(torch.nn.Identity(), lambda _: state))


@pytest.mark.usefixtures('without_spandrel')
def test_of_many_missing_tensors_the_first_are_named(bare):
    def changed(state):
        return {name: value for name, value in state.items() if not name.startswith('body.1.blocks')}

    with pytest.raises(
        RequestError, match=r'Missing key\(s\) in state_dict: "body\.1\.\S+, "body\.1\.\S+, "body\.1\.\S+ and \d+ more'
    ):
        load_trained_network(bare(built(*CASES[0]), changed))


@pytest.mark.parametrize(
    ('content', 'found'),
    [([torch.zeros(3)], 'a list'), (torch.zeros(3), 'a Tensor'), ({}, 'a dict'), ({'epoch': 3}, 'a dict')],
    ids=['list', 'tensor', 'empty', 'numbers'],
)
def test_a_file_without_named_tensors_says_what_it_holds(bare, content, found):
    with pytest.raises(RequestError, match=f'names and tensors.*found {found} without any.*state_dict'):
        load_trained_network(bare(torch.nn.Identity(), lambda _: content))


@pytest.mark.filterwarnings('ignore::FutureWarning', 'error::UserWarning')
def test_a_program_is_refused_as_one(tmp_path):
    torch.jit.script(torch.nn.Conv2d(3, 3, 1)).save(str(tmp_path / 'traced.pt'))
    with pytest.raises(RequestError, match=r'traced\.pt holds a program \(TorchScript\).*state_dict'):
        load_trained_network(tmp_path / 'traced.pt')


def test_the_option_file_beside_the_weights_counts_more(bare, tmp_path):
    network = built(*CASES[7])
    models = tmp_path / 'experiments/run/models'
    models.mkdir(parents=True)
    weights = bare(network).rename(models / 'net_g_1.pth')
    (models.parent / 'run.yml').write_text(
        'network_g: {type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 3, upscale: 3, img_range: 1.0}'
    )
    assert load_trained_network(weights).img_range == 1.0


@pytest.mark.parametrize(
    ('case', 'scale'),
    [(8, 1), (6, 2), (7, 3), (9, 4), (2, 8), (13, 1)],
    ids=['1x', '2x', '3x', '4x', '8x', 'unshuffled'],
)
def test_restore_reads_the_scale_from_the_network(bare, tmp_path, case, scale, capfd):
    cv2.imwrite(str(tmp_path / 'photo.png'), data.astronaut()[:22, :30])
    weights = bare(built(*CASES[case]))
    assert main(['restore', str(tmp_path / 'photo.png'), '-o', str(tmp_path / 'out'), '-w', str(weights)]) == 0
    assert cv2.imread(str(tmp_path / 'out/photo.png')).shape == (22 * scale, 30 * scale, 3)
    assert f'recognised by its tensors as {CASES[case][0].__name__}, {scale}x' in ''.join(capfd.readouterr())


def test_results_are_known_again(bare, tmp_path, capsys):
    """What is recognised is recorded as it is read again."""
    (tmp_path / 'in').mkdir()
    cv2.imwrite(str(tmp_path / 'in/photo.png'), data.astronaut()[:14, :14])
    words = ['restore', str(tmp_path / 'in'), '-o', str(tmp_path / 'out'), '-w', str(bare(built(*CASES[14])))]
    assert main(words) == 0
    assert main(words) == 0
    assert '1 already done' in capsys.readouterr().out


def test_a_network_for_grey_is_refused_for_pictures(bare, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'photo.png'), data.astronaut()[:22, :30])
    weights = bare(built(*CASES[3]))
    assert main(['restore', str(tmp_path / 'photo.png'), '-o', str(tmp_path / 'out'), '-w', str(weights)]) == 2
    assert '1 channels' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_what_was_recognised_is_written_with_the_weights(bare, tmp_path):
    network, record = load_recorded_network(bare(built(*CASES[5])))
    save_trained_network(network, record, tmp_path / 'own.safetensors')
    again, read = load_recorded_network(tmp_path / 'own.safetensors')
    assert read.options['type'] == 'DRN'
    assert read.notes == ()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())


def test_safetensors_without_a_description_are_read_too(tmp_path):
    network = built(*CASES[9])
    save_file(network.state_dict(), tmp_path / 'theirs.safetensors', {'format': 'pt'})
    x = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        assert torch.equal(load_trained_network(tmp_path / 'theirs.safetensors')(x), network(x))


def test_a_name_and_a_text_are_taken_as_a_path_is():
    names = set(packaged_weights())
    for each in names:
        assert type(load_trained_network(each)).__name__ == 'PDAN'
        assert type(load_trained_network(str(packaged_weights()[each]))).__name__ == 'PDAN'
    np.testing.assert_equal('pdan_small' in names, True)

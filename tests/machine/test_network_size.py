"""Sizes of networks are those worked out by hand."""

from basicsr.models.sr_model import SRModel
from plain_networks import Plain, WantsNumbers
from torch import nn

from pdan_plugin.machine import network_size
from pdan_plugin.models.restoration_model import RestorationModel


def test_parameters_and_multiply_accumulates_are_those_worked_out_by_hand():
    network = Plain()
    assert network_size.count_parameters(network) == 3 * 4 * 9 + 4
    assert network_size.multiply_accumulates(network, (1, 3, 720, 1280)) == network_size.Measured(
        720 * 1280 * 3 * 4 * 9, False
    )


def test_a_network_that_needs_numbers_is_counted_small_and_scaled():
    assert network_size.multiply_accumulates(WantsNumbers(), (1, 3, 96, 192)) == network_size.Measured(
        96 * 192 * 3 * 4 * 9, True
    )


def test_a_network_that_takes_no_picture_is_left_uncounted():
    assert network_size.multiply_accumulates(nn.Linear(7, 7), (1, 3, 8, 8)) is None


def test_optimizers_are_counted_by_what_they_keep():
    assert network_size.optimizer_values(SRModel, {'type': 'Adam', 'lr': 1e-4, 'betas': [0.9, 0.99]}) == 2
    assert network_size.optimizer_values(RestorationModel, {'type': 'AdamW', 'lr': 1e-4}) == 2

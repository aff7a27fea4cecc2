"""The full PDAN on a CUDA card: against the stock toolbox, against the card's peak rate, and its largest batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.contenders import Contender, measured_steps, ours, stock
from benchmarks.pictures import LR_SIZE, training_batch
from benchmarks.timing import Candidate, medians, release_memory, times_in_turn
from pdan_plugin.machine.network_size import multiply_accumulates
from pdan_plugin.machine.sizes import memory_in_words
from pdan_plugin.machine.working_memory import is_out_of_memory, may_be_unsupported
from pdan_plugin.option_schema.network_section import build_network

BATCH = 16
SETTING = 'bf16+channels_last+compile'
# Not compiled: the search tries many batch sizes, and each would be compiled again.
_SEARCH_SETTING = 'bf16+channels_last'
_LARGEST_TRIED = 4096
_MATRIX = 8192
_PRODUCTS = 20
# A training step computes each product three times: forward, and for the gradients of input and weights.
_PRODUCTS_OF_A_STEP = 3


def full_pdan(*, deblur_branch: bool = False, checkpointing: bool = False) -> dict[str, Any]:
    """The paper's size: 10 groups of 20 blocks, 128 features."""
    return {
        'type': 'PDAN',
        'num_feat': 128,
        'num_group': 10,
        'num_block': 20,
        'deblur_branch': deblur_branch,
        'checkpointing': checkpointing,
    }


def measure_full_network(device: torch.device, rounds: int) -> dict[str, Any]:
    """Batches of 16 of 64x64, in bfloat16, channels-last and compiled, against the stock toolbox's float32.

    Returns:
        ``ratio`` to stock, ``seconds``, ``samples_per_second`` and ``step_memory`` by side, ``times``;
        ``multiply_accumulates`` of a forward pass, ``operations_per_second`` reached and ``card_operations_per_second``
        of a large bfloat16 matrix product, ``matrix_rate_share`` (the one in the other); ``largest_batch`` that trains,
        'plain' and 'checkpointing', in bf16+channels_last, not compiled; ``batch``.
    """
    batches = [training_batch(BATCH, seed=0, number=number) for number in range(2)]
    sides = {
        'stock toolbox, fp32': stock(full_pdan(), device),
        SETTING: ours(full_pdan(), SETTING, device),
        f'{SETTING}, with deblurring branch': ours(full_pdan(deblur_branch=True), SETTING, device),
    }
    measured = measured_steps(sides, batches, rounds, device, 'full PDAN')
    seconds = measured['seconds']
    del sides
    torch.compiler.reset()
    release_memory(device)

    counted = multiply_accumulates(build_network(full_pdan(), 'network_g'), (BATCH, 3, LR_SIZE, LR_SIZE))
    assert counted is not None, 'PDAN takes any picture'
    reached = 2 * _PRODUCTS_OF_A_STEP * counted.value / seconds[SETTING]
    rate = bf16_matrix_rate(device, rounds)
    return {
        'ratio': seconds['stock toolbox, fp32'] / seconds[SETTING],
        **measured,
        'multiply_accumulates': counted.value,
        'operations_per_second': reached,
        'card_operations_per_second': rate,
        'matrix_rate_share': reached / rate,
        'largest_batch': {
            'plain': _largest_batch(device, checkpointing=False),
            'checkpointing': _largest_batch(device, checkpointing=True),
        },
        'batch': [BATCH, 3, LR_SIZE, LR_SIZE],
    }


def bf16_matrix_rate(device: torch.device, rounds: int) -> float:
    """Operations per second (a multiply-accumulate is two) of torch's product of square bfloat16 matrices."""
    left, right = (torch.randn(_MATRIX, _MATRIX, device=device, dtype=torch.bfloat16) for _ in range(2))

    def multiply() -> None:
        for _ in range(_PRODUCTS):  # a single product is too short to time
            torch.mm(left, right)

    times = times_in_turn({'products': Candidate(multiply)}, rounds, device=device)
    return 2 * _PRODUCTS * _MATRIX**3 / medians(times)['products']


def largest_that_fits(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number up to ``limit`` that fits, or 0. Every number below one that fits must fit too.

    Doubles the number until it does not fit, then bisects.
    """
    good, bad = 0, limit + 1
    tried = 1
    while tried < bad:
        if fits(tried):
            good, tried = tried, tried * 2
        else:
            bad = tried
    while bad - good > 1:
        tried = (good + bad) // 2
        if fits(tried):
            good = tried
        else:
            bad = tried
    return good


def _largest_batch(device: torch.device, *, checkpointing: bool) -> int:
    release_memory(device)
    side = ours(full_pdan(checkpointing=checkpointing), _SEARCH_SETTING, device)
    crops = training_batch(BATCH, seed=0, number=0)

    def fits(size: int) -> bool:
        copies = -(-size // BATCH)
        batch = {key: crops[key].repeat(copies, 1, 1, 1)[:size] for key in ('lq', 'gt')}
        done = _trains(side, {**batch, 'lq_path': [''] * size})
        # free the last step's tensors: a step that ran out of memory keeps them
        model = side.model
        model.lq = model.gt = model.output = None
        model.losses.clear()
        model.optimizer_g.zero_grad()
        release_memory(device)
        return done

    return largest_that_fits(fits, _LARGEST_TRIED)


def _trains(side: Contender, batch: Mapping[str, Any]) -> bool:
    """Whether two steps fit in the card's memory; Adam's state is allocated in the first.

    Raises:
        RuntimeError: a batch of one fails for a reason that may be another than memory.
    """
    try:
        for iteration in (1, 2):
            side.step(iteration, batch)
        torch.cuda.synchronize()
    except (MemoryError, RuntimeError) as error:
        smaller_remains = len(batch['lq_path']) > 1
        if not is_out_of_memory(error) or (may_be_unsupported(error) and not smaller_remains):
            raise
        return False  # until here the exception keeps the step's tensors alive
    return True


def table(measured: Mapping[str, Any] | None) -> str:
    """The table's rows for the card; without a card they show that nothing was measured."""
    title = f'Full PDAN (10 groups of 20 blocks, 128 features), batch of {BATCH} x 3 x {LR_SIZE} x {LR_SIZE}, on CUDA'
    if measured is None:
        names = (
            'stock toolbox, fp32',
            SETTING,
            "share of the card's bf16 matrix rate",
            'largest batch',
            'largest batch, checkpointing',
        )
        return '\n'.join([title, *(f'  {name:<50}not yet measured' for name in names)])
    lines = [title]
    for name, seconds in measured['seconds'].items():
        ratio = measured['seconds']['stock toolbox, fp32'] / seconds
        lines.append(
            f'  {name:<50}{seconds:>10.4f} s/step{measured["samples_per_second"][name]:>10.2f} samples/s'
            f'{ratio:>8.2f} to stock{memory_in_words(measured["step_memory"][name]):>12}'
        )
    lines += [
        f"  share of the card's bf16 matrix rate: {measured['matrix_rate_share']:.1%} "
        f'({measured["operations_per_second"] / 1e12:.0f} of {measured["card_operations_per_second"] / 1e12:.0f} '
        'TFLOP/s)',
        f'  largest batch that trains in {_SEARCH_SETTING}, not compiled: {measured["largest_batch"]["plain"]}; '
        f'with checkpointing: {measured["largest_batch"]["checkpointing"]}',
    ]
    return '\n'.join(lines)

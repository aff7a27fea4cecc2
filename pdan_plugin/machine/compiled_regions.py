"""torch.compile on the part of a network that repeats, so that compiling does not take longer for a deeper network."""

from __future__ import annotations

from torch import nn

_FEWEST = 4  # with fewer repetitions the whole network compiles about as fast, and its code is faster
_SHARE = 0.3


def repeated_modules(network: nn.Module) -> list[nn.Module]:
    """The modules that a network is mostly made of: all of one class, of which it has most.

    The class is not torch's own, has at least four modules, and they hold at least three tenths of the network's
    parameters.
    Of classes with equally many modules, the one that holds more parameters is chosen. Empty if there is no such class.

    >>> from pdan_plugin.archs.pdan_arch import PDAN
    >>> blocks = repeated_modules(PDAN(num_feat=16, num_group=2, num_block=6, fuse_levels=2))
    >>> len(blocks), type(blocks[0]).__name__
    (12, 'AttentionBlock')
    """
    by_class: dict[type[nn.Module], list[nn.Module]] = {}
    for module in network.modules():
        if module is not network and not type(module).__module__.startswith('torch.'):
            by_class.setdefault(type(module), []).append(module)
    total = _elements([network])
    chosen: list[nn.Module] = []
    best = (0, 0)
    for modules in by_class.values():
        held = _elements(modules)
        if len(modules) >= _FEWEST and held >= _SHARE * total and (len(modules), held) > best:
            chosen, best = modules, (len(modules), held)
    return chosen


def _elements(modules: list[nn.Module]) -> int:
    parameters = {id(parameter): parameter.numel() for module in modules for parameter in module.parameters()}
    return sum(parameters.values())


def compile_in_place(network: nn.Module) -> str:
    """Lets torch.compile compile the repeated modules of a network, or the whole network if nothing repeats.

    One module's code serves all of them. The parameters keep their names. Copies of the network are not compiled.

    Returns:
        What is compiled, for a message: 'each AttentionBlock', 'the whole network'.
    """
    modules = repeated_modules(network)
    for module in modules or [network]:
        module.compile()  # pyright: ignore[reportUnknownMemberType]
    return f'each {type(modules[0]).__name__}' if modules else 'the whole network'

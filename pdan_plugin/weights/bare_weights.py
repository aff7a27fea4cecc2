"""The network of weights of which no option file and no metadata say what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pdan_plugin.errors import RequestError
from pdan_plugin.weights.recognition import TRIED, Recognised, recognise
from pdan_plugin.weights.spandrel_network import INSTALL, find_spandrel, network_by_spandrel
from pdan_plugin.weights.state_search import has_tensors, keys_in_words
from pdan_plugin.weights.weights_file import read_content


@dataclass(frozen=True)
class BareNetwork:
    """A network that was recognised by its weights, which it holds.

    Attributes:
        options: ``network_g``.
        notes: What was recognised, and what was assumed.
    """

    options: dict[str, Any]
    network: nn.Module
    notes: tuple[str, ...]


def network_of_bare_weights(weights: Path, param_key: str | None = None) -> BareNetwork:
    """Recognises the network of a weights file by its tensors: the families here first, then those of spandrel if it is
    installed.

    Raises:
        RequestError: The file holds no weights. Or they are of none of these families; the message lists those that
            were tried, and why it is not one whose names it has.
    """
    content = read_content(str(weights), param_key)
    if not has_tensors(content):
        raise RequestError(
            f'{weights}: expected a dict of names and tensors (the weights of a network), found a '
            f'{type(content).__name__} without any. '
            'Save them with torch.save(network.state_dict(), FILE), or as safetensors.'
        )
    found = recognise(content, str(weights))
    if isinstance(found, Recognised):
        return BareNetwork(found.options, found.network, tuple(f'{weights}: {note}' for note in found.notes))
    spandrel = find_spandrel()
    by_spandrel = None if spandrel is None else network_by_spandrel(spandrel, content, str(weights))
    if isinstance(by_spandrel, tuple):
        return BareNetwork(*by_spandrel, (f'{weights}: {by_spandrel[0]["architecture"]}, recognised by spandrel',))
    tried = f'It is none of {TRIED}'
    tried += f' ({"; ".join(found)})' if found else ''
    tried += f', and {by_spandrel}' if by_spandrel else ''
    more = '' if by_spandrel else f', or install spandrel, which knows over forty more families: {INSTALL}'
    raise RequestError(
        f'{weights} is not in an experiment folder, so its network is unknown. {tried}. Its tensors are under '
        f'{keys_in_words(content)}. Give the option file it was trained with: -opt FILE{more}.'
    )


def spandrel_network(weights: Path, options: dict[str, Any]) -> BareNetwork:
    """The network of a file that `export` has written for a network of spandrel.

    Raises:
        RequestError: spandrel is not installed, or does not recognise it.
    """
    spandrel = find_spandrel()
    if spandrel is None:
        raise RequestError(f'{weights}: {options.get("architecture")} is a network of spandrel: {INSTALL}.')
    found = network_by_spandrel(spandrel, read_content(str(weights)), str(weights))
    if isinstance(found, str):
        raise RequestError(f'{weights}: {found}.')
    return BareNetwork(options, found[1], ())

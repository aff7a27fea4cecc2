"""Builds the network of a weights file for inference, and writes it as a file that describes its network."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pdan_plugin import __version__
from pdan_plugin.errors import RequestError
from pdan_plugin.files.torch_files import reasons_in_short
from pdan_plugin.option_schema.constructors import unknown_name
from pdan_plugin.option_schema.network_section import build_network, find_network, own_network
from pdan_plugin.option_schema.option_file import read_option_file
from pdan_plugin.plugins import load_plugins
from pdan_plugin.processes.command_start import need_toolbox
from pdan_plugin.weights.bare_weights import network_of_bare_weights, spandrel_network
from pdan_plugin.weights.packaged_weights import find_weights_file
from pdan_plugin.weights.run_log import log_line
from pdan_plugin.weights.spandrel_network import TYPE as SPANDREL
from pdan_plugin.weights.weights_file import (
    in_float16,
    is_safetensors,
    read_any_weights,
    read_metadata,
    refuse_what_is_no_file,
    write_safetensors,
)

FORMAT_VERSION = 1


@dataclass(frozen=True)
class NetworkRecord:
    """The network that a weights file belongs to, and its training.

    Attributes:
        options: ``network_g`` of its training: ``type`` and the arguments of the constructor.
        source: the file that these options come from.
        name: name of the training; None if unknown.
        iteration: the iteration at which the weights were saved; None if unknown.
        param_key: 'params_ema' or 'params', or the key that the user chose; None if unknown.
        plugins: ``plugins`` of its training, which register the network; None for all that are installed.
        notes: What was recognised and assumed, if the network was recognised by its weights.
    """

    options: dict[str, Any]
    source: Path
    name: str | None = None
    iteration: int | None = None
    param_key: str | None = None
    plugins: list[str] | None = None
    notes: tuple[str, ...] = ()

    def metadata(self) -> dict[str, str]:
        """The record as texts for a file's metadata; :func:`network_record` reads them."""
        known = {'name': self.name, 'iteration': self.iteration, 'param_key': self.param_key}
        return {
            'format_version': str(FORMAT_VERSION),
            'network_g': json.dumps(self.options),
            **({} if self.plugins is None else {'plugins': json.dumps(self.plugins)}),
            'pdan_plugin': __version__,
            **{key: str(value) for key, value in known.items() if value is not None},
        }


def load_trained_network(
    weights: str | PathLike[str],
    option_file: str | PathLike[str] | None = None,
    device: torch.device | str = 'cpu',
    *,
    param_key: str | None = None,
) -> nn.Module:
    """The network in eval mode on ``device`` in float32, with the moving-average weights if the file has them.

    A deblurring branch, which only training needs, is not built. The network's options are those of ``option_file``; if
    that is None, :func:`network_record` finds them.
    Files of other trainers are read too; ``param_key`` chooses the weights in a file that holds several. If the network
    was recognised by its tensors, the log reports it.

    Args:
        weights: A file, or the name of weights that come with this package, such as 'pdan_small'.

    Raises:
        RequestError: the network is unknown or cannot be built, or the weights do not fit; the message names the file.
    """
    network, record = load_recorded_network(weights, option_file, device, param_key=param_key)
    for note in record.notes:
        log_line(note)
    return network


def load_recorded_network(
    weights: str | PathLike[str],
    option_file: str | PathLike[str] | None = None,
    device: torch.device | str = 'cpu',
    *,
    param_key: str | None = None,
) -> tuple[nn.Module, NetworkRecord]:
    """:func:`load_trained_network`, and the record of the network as it was built."""
    file, _ = find_weights_file(Path(weights))
    with torch.random.fork_rng(devices=[]):  # the first weights of a network are random, and are replaced at once
        record, network = _record_and_network(file, None if option_file is None else Path(option_file), param_key)
        if network is None:
            network = _built(record)
    if record.options['type'] != SPANDREL:  # which has chosen and loaded the weights itself
        state, param_key = read_any_weights(str(file), network.state_dict(), param_key)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise RequestError(
                f'{file} does not fit network_g of {record.source}:\n{reasons_in_short(error)}\n'
                'Give the option file the weights were trained with: -opt FILE.'
            ) from error
    return network.eval().requires_grad_(False).to(device), replace(record, param_key=param_key)


def network_record(weights: Path) -> NetworkRecord:
    """Finds the network that a weights file belongs to, for inference: without a deblurring branch.

    Loads the plugins of its training, because one of them may register the network, unless it is one of this package.

    ``network_g`` is read from the metadata that :func:`save_trained_network` wrote into a safetensors file, else from
    the option file in the experiment folder (``experiments/NAME/*.yml`` beside ``experiments/NAME/models/``). If there
    is none of them, the network is recognised by the names and shapes of its tensors
    (:func:`~pdan_plugin.weights.bare_weights.network_of_bare_weights`).

    Raises:
        RequestError: there is no such weights file, its network is not recognised, ``network_g`` is missing in the
            option file, a plugin does not load, or the metadata cannot be read. The message names the file.
    """
    return _record_and_network(weights, None, None)[0]


def _record_and_network(
    weights: Path, option_file: Path | None, param_key: str | None
) -> tuple[NetworkRecord, nn.Module | None]:
    """The record; and the network with its weights, if recognising it took building it."""
    refuse_what_is_no_file(weights)
    record = _record_inside(weights) if option_file is None and is_safetensors(weights) else None
    if record is not None and record.options['type'] == SPANDREL:
        return record, spandrel_network(weights, record.options).network
    if record is None:
        option_file = option_file or _option_file_of(weights)
        if option_file is None:
            found = network_of_bare_weights(weights, param_key)
            return NetworkRecord(found.options, weights, notes=found.notes), found.network
        options = read_option_file(option_file)
        name, iteration = options.get('name'), re.search(r'_(\d+)\.\w+$', weights.name)
        record = NetworkRecord(
            _network_options(options.get('network_g'), option_file),
            option_file,
            name if isinstance(name, str) else None,
            int(iteration[1]) if iteration else None,
            plugins=options.get('plugins'),
        )
    if own_network(record.options['type']) is None:
        need_toolbox()
        load_plugins(record.plugins, str(record.source))
    network = find_network(record.options['type'])
    if network is None:
        from basicsr.utils.registry import ARCH_REGISTRY

        reason = unknown_name(ARCH_REGISTRY, 'arch', record.options['type'])
        raise RequestError(f'{record.source}: network_g.type: {reason}')
    if 'deblur_branch' in inspect.signature(network).parameters:
        record.options['deblur_branch'] = False
    return record, None


def save_trained_network(network: nn.Module, record: NetworkRecord, path: Path, *, float16: bool = False) -> None:
    """Writes a network with its record as safetensors, so that it can be loaded without an option file.

    With ``float16`` the weights take half the space; loading converts them to float32.

    Raises:
        RequestError: a weight is beyond float16's range, or the file cannot be written; then it is unchanged.
    """
    weights = network.state_dict()
    write_safetensors(path, in_float16(weights, path) if float16 else weights, record.metadata())


def _built(record: NetworkRecord) -> nn.Module:
    try:
        return build_network(record.options, 'network_g')
    except RequestError as error:
        raise RequestError(f'{record.source}: {error}') from error


def _network_options(found: Any, source: Path) -> dict[str, Any]:
    if not isinstance(found, dict) or 'type' not in found:
        raise RequestError(
            f'{source}: network_g with a type is missing; it is needed to build the network of the weights.'
        )
    return dict(found)


def _record_inside(weights: Path) -> NetworkRecord | None:
    """The record in a safetensors file's metadata; None if it has none, as in files of other programs."""
    metadata = read_metadata(weights)
    if 'network_g' not in metadata:
        return None
    way_out = 'Give the option file the weights were trained with: -opt FILE.'
    version = metadata.get('format_version', '')
    if version != str(FORMAT_VERSION):
        raise RequestError(
            f'{weights}: its metadata has format_version {version or "(none)"}, but this pdan_plugin ({__version__}) '
            f'reads {FORMAT_VERSION}; it was written by {metadata.get("pdan_plugin", "another program")}. {way_out}'
        )
    try:
        options = _network_options(json.loads(metadata['network_g']), weights)
        iteration = int(metadata['iteration']) if 'iteration' in metadata else None
        plugins = json.loads(metadata.get('plugins', 'null'))
    except RequestError as error:
        raise RequestError(f'{error} {way_out}') from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f'{weights}: its metadata about the network cannot be read ({error}). {way_out}') from error
    return NetworkRecord(options, weights, metadata.get('name'), iteration, plugins=plugins)


def _option_file_of(weights: Path) -> Path | None:
    """The option file of the experiment folder that weights lie in; None if they lie in none."""
    folder = weights.resolve().parent.parent
    found = sorted(folder.glob('*.yml'))
    if weights.resolve().parent.name != 'models' or not found:
        return None
    if len(found) > 1:
        raise RequestError(
            f'{folder} holds several option files ({", ".join(file.name for file in found)}). Say which one '
            f'belongs to {weights.name}: -opt FILE.'
        )
    return found[0]

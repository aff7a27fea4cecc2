"""The weights that the page offers, and the network that is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.devices import choose_device
from pdan_plugin.machine.precision import choose_precision
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.weights.packaged_weights import find_weights_file, packaged_weights
from pdan_plugin.weights.trained_network import load_recorded_network


class Networks:
    """Weights by the names that the page shows. One network is in memory at a time.

    Args:
        weights: Files, or names of packaged weights; the packaged ones are always offered, after these.
        device: Such as 'cuda:1'; see :func:`~pdan_plugin.machine.devices.choose_device`.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'; see :func:`~pdan_plugin.machine.precision.choose_precision`.

    Attributes:
        names: The first one is the default.

    Raises:
        RequestError: A file is missing, two have one name, or the device cannot be used.
    """

    def __init__(self, weights: Sequence[Path] = (), device: str | None = None, precision: str = 'auto') -> None:
        self._device = choose_device(device)
        self._precision = choose_precision(precision, self._device)
        self._files: dict[str, Path] = {}
        for asked in weights:
            path, is_packaged = find_weights_file(asked)
            name = path.stem if is_packaged else path.name
            if not path.is_file():
                raise RequestError(f'-w {asked}: no such file')
            if name in self._files:
                raise RequestError(f'-w {asked}: another file is called {name}, too; rename one of them')
            self._files[name] = path
        for name, path in packaged_weights().items():
            self._files.setdefault(name, path)
        self._loaded: tuple[str, Restorer] | None = None

    @property
    def names(self) -> list[str]:
        return list(self._files)

    def restorer(self, name: str) -> Restorer:
        """The restorer of the weights; they are loaded if they are not the last ones.

        Raises:
            RequestError: The name is not offered, or the weights cannot be used.
        """
        if name not in self._files:
            raise RequestError(f'{name}: no such weights; this page has {", ".join(self._files)}')
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # frees the other network first
            network, _ = load_recorded_network(self._files[name], None, self._device)
            restorer = Restorer(network, self._device, precision=self._precision, tile='auto', cuda_graphs=True)
            if restorer.channels != 3:
                raise RequestError(f'{name}: the network takes {restorer.channels} channels; pictures have 3')
            self._loaded = name, restorer
        return self._loaded[1]

"""Loads the files that metrics need before the first picture is restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import METRIC_REGISTRY

from pdan_plugin.errors import RequestError


def prepare_metrics(metrics_opt: Mapping[str, Mapping[str, Any]], *, device: str | None = None) -> None:
    """Calls ``prepare(**options)`` of every metric that has it, to load what the metric needs.

    Args:
        metrics_opt: ``val.metrics``: each metric's options, with its registered name under ``type``.
        device: Where to load the networks of those metrics that name a device; None for the device that they name.

    Raises:
        RequestError: Something is missing or does not fit; the message names the metric's section.
    """
    for name, options in metrics_opt.items():
        prepare = getattr(METRIC_REGISTRY.get(options['type']), 'prepare', None)
        if prepare is None:
            continue
        asked = {key: value for key, value in options.items() if key != 'type'}
        if device is not None and 'device' in asked:
            asked['device'] = device
        try:
            prepare(**asked)
        except RequestError as error:
            raise RequestError(f'val.metrics.{name}: {error}') from error

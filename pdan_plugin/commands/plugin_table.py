"""The output of `basicsr plugins`: all registered names with their distributions, and the fixes of the toolbox."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)

from pdan_plugin.plugins import LoadedPlugin
from pdan_plugin.toolbox_fixes import FIXES, applied

REGISTRIES = {
    'arch': ARCH_REGISTRY,
    'model': MODEL_REGISTRY,
    'loss': LOSS_REGISTRY,
    'metric': METRIC_REGISTRY,
    'dataset': DATASET_REGISTRY,
}


def describe(plugins: Sequence[LoadedPlugin]) -> str:
    """The tables, as text: loaded plugins, registered names, fixes of the toolbox."""
    owners = importlib.metadata.packages_distributions()

    def distribution(module: str) -> str:
        package = module.split('.')[0]
        announced = [plugin.distribution for plugin in plugins if plugin.module.split('.')[0] == package]
        return next((name for name in [*announced, *owners.get(package, [])] if name), '(not installed)')

    loaded = [(plugin.name, plugin.module, plugin.distribution or '(not installed)') for plugin in plugins]
    registered = [
        (kind, name.removesuffix('_basicsr'), item.__module__, distribution(item.__module__))
        for kind, registry in REGISTRIES.items()
        for name, item in sorted(dict(iter(registry)).items())
    ]
    changed = applied()
    fixes = [(fix.name, fix.where, fix.upstream, 'applied' if changed.get(fix.name) else 'not needed') for fix in FIXES]
    return '\n\n'.join(
        [
            _table(('plugin', 'module', 'distribution'), loaded),
            _table(('registry', 'name', 'module', 'distribution'), registered),
            _table(('toolbox fix', 'where', 'upstream issue', 'here'), fixes),
        ]
    )


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in [titles, *rows]) for column in range(len(titles))]
    lines = [titles, tuple('-' * width for width in widths), *rows]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )

"""What a test would write twice is refused before the first picture is restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.models.listed_frames import listed_frames
from pdan_plugin.models.result_names import clip_and_frame, result_name
from pdan_plugin.models.scores_record import MEAN_ROW


def require_distinct_tables(datasets_opt: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses data sets of which one would write over another's tables.

    Args:
        datasets_opt: ``datasets`` of a test's options; only the names are read.

    Raises:
        RequestError: Two have one name, or one is called as the table of clips of another.
    """
    tables: dict[str, str] = {}
    for key, dataset_opt in datasets_opt.items():
        name = dataset_opt.get('name')
        for table in () if name is None else (f'{name}.csv', f'{name}_clips.csv'):
            other = tables.setdefault(table, key)
            if other != key:
                raise RequestError(
                    f'datasets.{key}.name: {name}: its table {table} is also one of datasets.{other} '
                    f'({datasets_opt[other]["name"]}); give one of them another name'
                )


def require_distinct_results(dataset: Any) -> None:
    """Refuses images of which one's result would stand for another's; a data set that lists none is let through.

    Args:
        dataset: A data set that was built, with its options in ``opt``; nothing is read but its list of frames.

    Raises:
        RequestError: Two results have one name, or a clip is called as the last row of the table of clips.
    """
    label = f'data set {dataset.opt["name"]!r}'
    paths: dict[str, str] = {}
    for path, root in listed_frames(dataset) or ():
        name = result_name(path, [root])
        if name in paths:
            raise RequestError(
                f'{label}: the results of {paths[name]} and {path} would both be called {name}: the folders '
                'below the data root make it. Rename a folder, or test them as two data sets'
            )
        paths[name] = path
        if clip_and_frame(path, [root])[0] == MEAN_ROW:
            raise RequestError(
                f'{label}: the clip of {path} is called as the last row of {dataset.opt["name"]}_clips.csv; rename the '
                'folder'
            )

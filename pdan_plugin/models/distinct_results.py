"""Rejects a test that would write one result over another, before the first picture is restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.models.listed_frames import listed_frames
from pdan_plugin.models.result_names import clip_and_frame, result_name
from pdan_plugin.models.scores_record import MEAN_ROW


def require_distinct_tables(datasets_opt: Mapping[str, Mapping[str, Any]]) -> None:
    """Rejects data sets that would write the same table.

    Args:
        datasets_opt: ``datasets`` of a test's options; only the names are read.

    Raises:
        RequestError: Two data sets have the same name, or one has the name of another's clip table.
    """
    tables: dict[str, str] = {}
    for key, dataset_opt in datasets_opt.items():
        name = dataset_opt.get('name')
        for table in () if name is None else (f'{name}.csv', f'{name}_clips.csv'):
            other = tables.setdefault(table, key)
            if other != key:
                raise RequestError(
                    f'datasets.{key}.name: {name}: its table {table} would also be written by datasets.{other} '
                    f'({datasets_opt[other]["name"]}); give one of them another name'
                )


def require_distinct_results(dataset: Any) -> None:
    """Rejects a data set if two of its results would have the same name. Accepts one that does not list its frames.

    Args:
        dataset: A built data set with its options in ``opt``; only its list of frames is read.

    Raises:
        RequestError: Two results have the same name, or a clip has the name of the last row of the clip table.
    """
    label = f'data set {dataset.opt["name"]!r}'
    paths: dict[str, str] = {}
    for path, root in listed_frames(dataset) or ():
        name = result_name(path, [root])
        if name in paths:
            raise RequestError(
                f'{label}: the results of {paths[name]} and {path} would both be called {name}: folders below the data '
                'root make up the name of a result. Rename a folder, or test them as two data sets'
            )
        paths[name] = path
        if clip_and_frame(path, [root])[0] == MEAN_ROW:
            raise RequestError(
                f'{label}: the clip of {path} has the name of the last row of {dataset.opt["name"]}_clips.csv; rename '
                'the folder'
            )

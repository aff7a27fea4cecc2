"""Lists the frames of a data set without reading a picture."""

from __future__ import annotations

from typing import Any

from pdan_plugin.data.reds_paired_dataset import REDSPairedDataset


def listed_frames(dataset: Any) -> list[tuple[str, str]] | None:
    """(path, its data root) of every frame, in order; None if the data set does not list its frames.

    Args:
        dataset: A built data set with its options in ``opt``: a `REDSPairedDataset`, or one of the toolbox's data sets
            with a list ``paths``.
    """
    if isinstance(dataset, REDSPairedDataset):
        return dataset.frames()
    paths = getattr(dataset, 'paths', None)
    root = dataset.opt.get('dataroot_lq')
    if not isinstance(paths, list) or not isinstance(root, str):
        return None
    return [(str(each['lq_path'] if isinstance(each, dict) else each), root) for each in paths]

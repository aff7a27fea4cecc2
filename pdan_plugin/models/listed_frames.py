"""Which frames a data set holds, without a picture being read."""

from __future__ import annotations

from typing import Any

from pdan_plugin.data.reds_paired_dataset import REDSPairedDataset


def listed_frames(dataset: Any) -> list[tuple[str, str]] | None:
    """(path, the root it lies below) of every frame, in order; None of a data set that does not list them.

    Args:
        dataset: As it was built, with its options in ``opt``: a `REDSPairedDataset`, or one of the toolbox's that keep
            a list ``paths``.
    """
    if isinstance(dataset, REDSPairedDataset):
        return dataset.frames()
    paths = getattr(dataset, 'paths', None)
    root = dataset.opt.get('dataroot_lq')
    if not isinstance(paths, list) or not isinstance(root, str):
        return None
    return [(str(each['lq_path'] if isinstance(each, dict) else each), root) for each in paths]

"""Checks that a data set can be built and its first sample can be read."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from basicsr.utils.registry import DATASET_REGISTRY

from pdan_plugin.commands.picture_check import EXCHANGED, Size, are_exchanged, check_pictures, size_in_words
from pdan_plugin.commands.trial import as_request
from pdan_plugin.errors import RequestError
from pdan_plugin.models.distinct_results import require_distinct_results
from pdan_plugin.models.submission import require_challenge_frames
from pdan_plugin.option_schema.constructors import find_registered

_TABLES_SET = re.compile(r'datasets/small(_synthesised)?/')
_VIDEO_SET = 'datasets/small_video/'  # of both
_WEIGHTS_SET = re.compile(r'datasets/(everyday(_synthesised)?|photographs(_soft)?)/')
_STORE = re.compile(r'(train|val|val300)_(sharp|blur_bicubic_x4|sharp_bicubic_x4)\.lmdb$')


@dataclass(frozen=True)
class DataFacts:
    """Facts of a built data set: its length, and the picture shapes of its first sample (None: no such picture).

    Attributes:
        gt_sizes: (height, width) of the ground truth -> the first picture that has it; empty if they are not known.
    """

    phase: str
    kind: str
    samples: int
    lq_shape: tuple[int, ...] | None
    gt_shape: tuple[int, ...] | None
    gt_sizes: Mapping[Size, str] = field(default_factory=dict)


def check_data(
    values: Mapping[str, Any],
    key: str,
    scale: Any,
    path: str,
    *,
    is_test: bool = False,
    is_submission: bool = False,
) -> DataFacts:
    """Builds a data set and reads its first sample.

    Args:
        values: The completed options of the data set.
        key: Their dotted key in the option file, such as ``datasets.train``.
        scale: ``scale`` of the options; None if they give none.
        path: The option file, for messages.
        is_test: Whether a result is written for every sample; then the results need different names.
        is_submission: Whether the results will be submitted to the challenge.

    Raises:
        RequestError: A path is missing, the data set cannot be built or is empty, or its first sample cannot be read or
            has another scale.
    """
    for source in [values, *(values.get('sources') or [])]:
        for word, value in source.items():
            if word.startswith(('dataroot', 'meta_info')):
                for root in value if isinstance(value, list) else [value]:
                    _require_path(root, f'{path}: {key}.{word}')
    if values.get('cache_data'):  # a video data set would read all its clips
        values = {**values, 'cache_data': False}
    target: Any = find_registered(DATASET_REGISTRY, values['type'])
    with as_request(f'{path}: {key}: {values["type"]} cannot be built'):
        dataset = target(copy.deepcopy(values))
        samples = len(dataset)
    if samples == 0:
        raise RequestError(
            f'{path}: {key}: {values["type"]} found no pictures in {values.get("dataroot_gt")}'
            f'{" and " + str(values["dataroot_lq"]) if values.get("dataroot_lq") else ""}; nested '
            'folders need a data set that reads them, such as REDSPairedDataset'
        )
    with as_request(path):
        if is_submission:
            require_challenge_frames(dataset)
        if is_test:
            require_distinct_results(dataset)
    if 'num_frame' in values and values['phase'] != 'train':
        # a sample of a video data set is a whole clip, too much to read here
        with as_request(f'{path}: {key}'):
            sizes = check_pictures(dataset, values)
        return DataFacts(values['phase'], values['type'], samples, None, None, sizes)
    with as_request(f'{path}: {key}: the first sample cannot be read'):
        try:
            sample = dataset[0]
        except Exception:
            check_pictures(dataset, values)  # its message names the option: gt_size, scale, or roots that are exchanged
            raise
    lq, gt = (tuple(sample[name].shape) if torch.is_tensor(sample.get(name)) else None for name in ('lq', 'gt'))
    if lq and gt and scale and gt[-2:] != tuple(round(side * scale) for side in lq[-2:]):
        raise RequestError(
            f'{path}: {key}: the first sample is {size_in_words(lq)} in lq and {size_in_words(gt)} in gt '
            f'({sample.get("lq_path")}); expected gt {scale} times as large as lq, by scale: {scale}. Set scale: (and '
            "network_g's upscale) to the scale of the data, or give data of that scale"
            f'{"; " + EXCHANGED if are_exchanged(gt, lq, scale) else ""}'
        )
    with as_request(f'{path}: {key}'):
        sizes = check_pictures(dataset, values)
    return DataFacts(values['phase'], values['type'], samples, lq, gt, sizes)


def _require_path(root: Any, key: str) -> None:
    if not isinstance(root, (str, Path)) or os.path.exists(os.path.expanduser(root)):
        return
    if '$' in str(root):
        advice = 'environment variables are not replaced in option files: write the path, or start with ~ for your home'
    elif 'quickstart' in str(root):
        advice = '`basicsr quickstart` creates it'
    elif _TABLES_SET.search(str(root)):
        advice = '`bash scripts/prepare_small_set.sh PHOTOS VIDEOS --only tables` creates it'
    elif _VIDEO_SET in str(root):
        advice = '`bash scripts/prepare_small_set.sh PHOTOS VIDEOS` creates it'
    elif _WEIGHTS_SET.search(str(root)):
        advice = '`bash scripts/prepare_small_set.sh PHOTOS VIDEOS --only weights` creates it'
    elif 'own_pairs/' in str(root):
        advice = '`basicsr prepare-pairs PHOTOS datasets/own_pairs` creates it'
    elif 'synthesised/' in str(root) and _STORE.search(str(root)):
        advice = (
            f'`basicsr synthesize SOURCE {Path(root).parent} --phases 3` creates it; SOURCE is a folder of sharp clips'
        )
    elif _STORE.search(str(root)):
        optional = 'sharp_bicubic' in str(root)
        advice = (
            f'`basicsr prepare-reds SOURCE {Path(root).parent}` creates it; SOURCE is the folder with the '
            f'folders or zips of REDS{" (add --make-sharp-bicubic if they lack sharp_bicubic)" if optional else ""}'
        )
        if optional:
            advice += '; or remove this line, and the pictures are computed from dataroot_gt while reading'
    else:
        advice = 'give the right path, or start the command from the folder it is relative to'
    raise RequestError(f'{key}: {root} does not exist (relative to the working folder {os.getcwd()}); {advice}')

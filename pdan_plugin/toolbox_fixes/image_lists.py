"""The images of a data set: nested folders, meta-info files, LMDB stores."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Iterator
from os import path as osp
from types import SimpleNamespace
from typing import Any

import numpy as np
from basicsr import data as toolbox_data
from basicsr.data import data_util, single_image_dataset, transforms, video_test_dataset
from basicsr.utils import scandir

from pdan_plugin.data import training_pictures
from pdan_plugin.data.training_pictures import only_pictures
from pdan_plugin.errors import RequestError, some_of
from pdan_plugin.files.folder_walk import STRAY_FOLDERS
from pdan_plugin.toolbox_fixes.patching import SILENT, fix, probe, replace, swapped


@fix(
    where='data/data_util.py:219',
    upstream='none',
    symptom="folders of clips, REDS's own layout: 0 images, then ZeroDivisionError",
    behaves=lambda: _pairs_nested_folders(),
)
def nested_folders() -> None:
    """If a folder holds no files itself, the files of its subfolders are paired by their paths.

    A folder with files is read as before, without its subfolders. Pairs are sorted by path: the published order is that
    of the file system, which may differ between the machines of a run.
    """

    def paired_paths_from_folder(folders: list[str], keys: list[str], filename_tmpl: str) -> list[dict[str, str]]:
        (input_folder, gt_folder), (input_key, gt_key) = folders, keys
        input_names, gt_names = _files(input_folder, input_key), _files(gt_folder, gt_key)
        wanted = {name: _input_name(name, filename_tmpl) for name in gt_names}
        lacking = sorted(set(wanted.values()) - set(input_names))
        left_over = sorted(set(input_names) - set(wanted.values()))
        if lacking or left_over:
            raise RequestError(
                f'{gt_key} ({gt_folder}, {len(gt_names)} files) and {input_key} ({input_folder}, '
                f'{len(input_names)} files) do not match under filename_tmpl {filename_tmpl!r}: '
                f'{input_key} lacks {some_of(lacking)}; without a partner in {gt_key}: {some_of(left_over)}'
            )
        return [
            {f'{input_key}_path': osp.join(input_folder, wanted[name]), f'{gt_key}_path': osp.join(gt_folder, name)}
            for name in gt_names
        ]

    replace(data_util, 'paired_paths_from_folder', paired_paths_from_folder)


@fix(
    where='data/data_util.py:28,244; single_image_dataset.py:45; video_test_dataset.py:65,72',
    upstream='none',
    symptom='Thumbs.db or desktop.ini among the pictures ends a run when it is read as one',
    behaves=lambda: _lists_only_pictures(),
)
def stray_files_are_left_out() -> None:
    """Data sets list pictures only. A warning in the log names the other files."""
    for module in (data_util, single_image_dataset, video_test_dataset):
        replace(module, 'scandir', _scan_pictures, everywhere=False)
    replace(video_test_dataset, 'glob', SimpleNamespace(glob=_glob_folders), everywhere=False)


def _scan_pictures(
    dir_path: str, suffix: Any = None, recursive: bool = False, full_path: bool = False
) -> Iterator[str]:
    names = list(scandir(dir_path, suffix, recursive))
    for name in names if suffix else only_pictures(str(dir_path), names):
        yield osp.join(dir_path, name) if full_path else name


def _glob_folders(pattern: str) -> list[str]:
    return [path for path in glob.glob(pattern) if osp.isdir(path) and osp.basename(path) not in STRAY_FOLDERS]


@probe
def _lists_only_pictures() -> bool:
    """Whether a list of a picture and a Thumbs.db has the picture alone. A replaced os.scandir lists them."""
    root = osp.dirname(osp.realpath(__file__))
    entries = [_entry(osp.join(root, name), is_file=True) for name in ('0.png', 'Thumbs.db')]
    with (
        swapped(os, scandir=lambda path='.': _Listing(entries)),
        swapped(
            training_pictures,
            get_root_logger=lambda: SILENT,
            cv2=SimpleNamespace(haveImageReader=lambda path: False),  # it would print that there is no such file
        ),
    ):
        return data_util.paths_from_folder(root) == [osp.join(root, '0.png')]


@fix(
    where='data/transforms.py:63',
    upstream='none',
    symptom='a pair whose sizes do not match: ValueError in the middle of a run, no file named',
    behaves=lambda: _names_the_pair(),
)
def mismatched_pairs_are_named() -> None:
    """The error of `paired_random_crop` names the picture. It is for pictures that `check` did not see."""
    published = transforms.paired_random_crop

    @functools.wraps(published)
    def paired_random_crop(
        img_gts: Any, img_lqs: Any, gt_patch_size: int, scale: int, gt_path: Any = None
    ) -> tuple[Any, Any]:
        try:
            return published(img_gts, img_lqs, gt_patch_size, scale, gt_path)
        except ValueError as error:
            raise RequestError(f'{gt_path}: {"".join(map(str, error.args))} Replace or remove it.') from error

    replace(transforms, 'paired_random_crop', paired_random_crop)


@probe
def _names_the_pair() -> bool:
    try:
        transforms.paired_random_crop(np.zeros((8, 8, 3)), np.zeros((3, 3, 3)), 4, 2, 'probe.png')
        return False
    except Exception as error:
        return 'probe.png' in str(error)


@fix(
    where='data/data_util.py:190',
    upstream='none',
    symptom='a meta-info line CLIP/FRAME.png is looked for as FRAME.png in the LQ folder',
    behaves=lambda: _keeps_the_clip(),
)
def meta_info_keeps_the_clip() -> None:
    """The LQ path keeps the folder of the name in the meta-info file."""

    def paired_paths_from_meta_info_file(
        folders: list[str], keys: list[str], meta_info_file: str, filename_tmpl: str
    ) -> list[dict[str, str]]:
        (input_folder, gt_folder), (input_key, gt_key) = folders, keys
        with open(meta_info_file, encoding='utf-8') as lines:
            names = [line.split()[0] for line in lines if line.strip()]
        return [
            {
                f'{input_key}_path': osp.join(input_folder, _input_name(name, filename_tmpl)),
                f'{gt_key}_path': osp.join(gt_folder, name),
            }
            for name in names
        ]

    replace(data_util, 'paired_paths_from_meta_info_file', paired_paths_from_meta_info_file)


@fix(
    where='data/data_util.py:132',
    upstream='#16',
    symptom='a missing LMDB store: FileNotFoundError on its meta_info.txt; keys that differ are not listed',
    behaves=lambda: _explains_a_missing_store(),
)
def missing_stores_and_keys() -> None:
    """The error for a missing store explains how to create one. Keys that one store lacks are listed.

    The probe tests only the missing store; the keys would need two stores.
    """
    published = data_util.paired_paths_from_lmdb

    @functools.wraps(published)
    def paired_paths_from_lmdb(folders: list[str], keys: list[str]) -> list[dict[str, str]]:
        names = [_store_keys(folder, key) for folder, key in zip(folders, keys, strict=True)]
        for (folder, own), other in zip(zip(folders, names, strict=True), reversed(names), strict=True):
            if other - own:
                raise RequestError(f'{folder}: lacks keys of the other store: {some_of(sorted(other - own))}')
        return published(folders, keys)

    replace(data_util, 'paired_paths_from_lmdb', paired_paths_from_lmdb)


@probe
def _explains_a_missing_store() -> bool:
    missing = osp.join(os.devnull, 'probe.lmdb')
    try:
        data_util.paired_paths_from_lmdb([missing, missing], ['lq', 'gt'])
    except OSError:  # the bare error of open()
        return False
    except Exception:
        return True
    return False


@fix(
    where='data/__init__.py:38',
    upstream='none',
    symptom='a data set without a single image: ZeroDivisionError in training, NameError (idx) in a test',
    behaves=lambda: _refuses_an_empty_dataset(),
)
def empty_datasets() -> None:
    """`build_dataset` rejects a data set of length 0; the error names its folders."""
    published = toolbox_data.build_dataset

    @functools.wraps(published)
    def build_dataset(dataset_opt: dict[str, Any]) -> Any:
        dataset = published(dataset_opt)
        if len(dataset) == 0:
            roots = {key: value for key, value in dataset_opt.items() if key.startswith('dataroot')}
            raise RequestError(
                f'data set {dataset_opt.get("name")} ({dataset_opt["type"]}): 0 images in {roots}; '
                'give the folder that holds the images, or clips of images'
            )
        return dataset

    replace(toolbox_data, 'build_dataset', build_dataset)


@probe
def _refuses_an_empty_dataset() -> bool:
    registry = SimpleNamespace(get=lambda name: lambda dataset_opt: [])
    with swapped(toolbox_data, DATASET_REGISTRY=registry, get_root_logger=lambda *args, **kwargs: SILENT):
        try:
            toolbox_data.build_dataset({'type': 'probe', 'name': 'probe', 'dataroot_gt': 'probe'})
            return False
        except Exception:
            return True


@probe
def _pairs_nested_folders() -> bool:
    """Whether a folder with one clip of one frame has one pair. A replaced os.scandir lists such a folder."""
    root = osp.dirname(osp.realpath(__file__))
    clip, frame = osp.join(root, '000'), osp.join(root, '000', '0.png')
    listed = {root: [_entry(clip, is_file=False)], clip: [_entry(frame, is_file=True)]}
    real_scandir = os.scandir

    def scandir(path: Any = '.') -> Any:
        return _Listing(listed[path]) if path in listed else real_scandir(path)

    with swapped(os, scandir=scandir):
        pairs = data_util.paired_paths_from_folder([root, root], ['lq', 'gt'], '{}')
    return pairs == [{'lq_path': frame, 'gt_path': frame}]


def _entry(path: str, is_file: bool) -> Any:
    return SimpleNamespace(
        name=osp.basename(path),
        path=path,
        is_file=lambda **kwargs: is_file,
        is_dir=lambda **kwargs: not is_file,
        is_symlink=lambda: False,
        is_junction=lambda: False,
    )


class _Listing:
    """Like the result of os.scandir: an iterator and a context manager."""

    def __init__(self, entries: list[Any]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> _Listing:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def close(self) -> None:
        pass


@probe
def _keeps_the_clip() -> bool:
    """The meta-info file is a pipe: `open` accepts its descriptor number."""
    reading, writing = os.pipe()
    os.write(writing, b'000/0.png (1,1,3)\n')
    os.close(writing)
    number: Any = reading
    pairs = data_util.paired_paths_from_meta_info_file(['lq', 'gt'], ['lq', 'gt'], number, '{}')
    return pairs == [{'lq_path': osp.join('lq', '000/0.png'), 'gt_path': osp.join('gt', '000/0.png')}]


def _files(folder: str, key: str) -> list[str]:
    """Visible pictures relative to the folder, sorted; those of subfolders only if the folder itself has none."""
    if not osp.isdir(folder):
        raise RequestError(f'dataroot_{key}: {folder} is not a folder')
    if osp.isfile(osp.join(folder, 'data.mdb')):
        raise RequestError(f'dataroot_{key}: {folder} is an LMDB store; set io_backend: {{type: lmdb}}')
    found: list[str] = []
    for base, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith('.') and name not in STRAY_FOLDERS]
        visible = [osp.relpath(osp.join(base, name), folder) for name in names if not name.startswith('.')]
        found += only_pictures(folder, visible)
        if base == folder and found:
            break
    return sorted(found)


def _store_keys(folder: str, key: str) -> set[str]:
    meta_info = osp.join(folder, 'meta_info.txt')
    if not osp.isfile(meta_info):
        raise RequestError(
            f'dataroot_{key}: {folder} is not an LMDB store of images (it has no meta_info.txt). '
            '`basicsr prepare-reds SOURCE TARGET` creates the stores of REDS and of frames with the same '
            'folders; basicsr.utils.lmdb_util.make_lmdb_from_imgs creates others'
        )
    with open(meta_info, encoding='utf-8') as lines:
        return {line.split('.')[0] for line in lines}


def _input_name(gt_name: str, filename_tmpl: str) -> str:
    stem, extension = osp.splitext(osp.basename(gt_name))
    return osp.join(osp.dirname(gt_name), f'{filename_tmpl.format(stem)}{extension}')

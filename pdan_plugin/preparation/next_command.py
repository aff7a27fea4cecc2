"""Tells the command that comes after stores were made, and how it finds them if they lie in an unusual place."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path


def tell_next(option_file: str, folder: str, keys: Mapping[str, str], stores: Sequence[Path]) -> None:
    """Prints the check of an option file of the package; and the options that name the stores, if it reads others.

    Args:
        option_file: Its name.
        folder: Where it expects the stores.
        keys: Name of a store without ``.lmdb`` -> the option that names it, joined by colons.
        stores: The stores that were made; those without an option are left out.
    """
    print(f'Next: basicsr check -opt {option_file}')
    elsewhere: list[str] = []
    for store in stores:
        name = store.stem.removesuffix('_sub')  # the option file reads whole frames
        if name in keys and os.path.abspath(store) != os.path.abspath(f'{folder}/{name}.lmdb'):
            elsewhere.append(f'{keys[name]}={store}')
    if elsewhere:
        print(f'It reads {folder}. To read these stores, add: {shlex.join(["--force_yml", *elsewhere])}')

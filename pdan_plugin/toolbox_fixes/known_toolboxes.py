"""Toolboxes that are known, and which fixes each needs.

A probe swaps parts of the whole process while it asks: `os.environ`, `os.stat`, `sys.argv`, `torch.load`. A program
that imports the package may use them in another thread at that moment. So the answers for the toolboxes that people
have are kept here, and probes run for any other toolbox alone, such as one that was edited.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

# By the digest of their source: the column of NEEDED.
DIGESTS: dict[str, int] = {
    'd05dc958ef33f9cb3ed9b4fbc507c849ddaa8a976921aa7d3237b4ed855f9342': 0,
    'b375a423968948a51b51f28ac0725ca2e016e6f925a8cb5c31a738fac9275ae6': 1,
}
# For each fix, whether it is needed by
#   1.4.2, as PyPI has it, and
#   GitHub's master (8d56e3a), which PyPI's new-basicsr 1.0.0 has file by file.
# A fix without a probe is needed by all. What this computer calls for (`Fix.is_called_for`) is asked in any case.
NEEDED: dict[str, tuple[bool, bool]] = {
    'torchvision_functional_tensor': (True, True),
    'scipy_ndimage_filters': (True, True),
    'distutils_version': (True, True),
    'every_run_has_its_log_file': (True, True),
    'pipeline_is_no_test': (True, True),
    'unknown_names': (True, True),
    'join_process_group': (True, True),
    'options_read_by_safe_rules': (True, True),
    'kept_options_are_those_run': (True, True),
    'resume_from_the_newest_whole_state': (True, True),
    'known_folders_only': (True, True),
    'networks_are_saved_whole': (True, True),
    'unreadable_weights_are_reported': (True, True),
    'training_states_are_saved_whole': (True, True),
    'wrap_without_cuda': (True, True),
    'ema_copies_buffers': (True, True),
    'last_validation_at_the_last_iteration': (True, True),
    'ranks_wait_for_validation': (True, True),
    'multistep_reaches_base_rate': (True, True),
    'cosine_stays_at_its_end': (True, True),
    'option_file_schedule_wins': (True, True),
    'unreadable_images_are_named': (True, True),
    'shown_tensors_stay_as_they_are': (True, True),
    'lmdb_stores_are_shared': (True, True),
    'bytes_know_their_source': (True, True),
    'nested_folders': (True, True),
    'meta_info_keeps_the_clip': (True, True),
    'missing_stores_and_keys': (True, True),
    'empty_datasets': (True, True),
    'epochs_of_whole_batches': (True, True),
    'epoch_follows_the_iteration': (True, True),
    'indices_know_their_epoch': (True, True),
    'every_sample_has_its_seed': (True, True),
    'prefetching_passes_errors_on': (True, True),
    'cuda_prefetcher_needs_cuda': (True, True),
    'no_epoch_before_the_first': (True, True),
    'ssim_filters_rows_and_columns': (True, True),
    'spawned_workers_import_the_fixes': (True, True),
    'workers_heed_their_parent_alone': (True, True),
    'log_lines_have_time_and_pace': (True, True),
    'progress_is_followed': (True, True),
    'runs_stop_when_asked': (True, True),
    'owed_validations_are_made': (True, True),
}


def toolbox_digest(folder: Path) -> str:
    """SHA-256 over a toolbox's source, in hexadecimal digits.

    Read are the names and texts of all modules that its packages hold. Ends of lines do not count, and `version.py`
    does not, which the build writes with its time. A checkout and an installed wheel of it have one digest.

    Args:
        folder: The package folder, `.../basicsr`.
    """
    digest = hashlib.sha256()
    packages = {each.parent for each in folder.rglob('__init__.py')}
    modules = {each.relative_to(folder).as_posix(): each for package in packages for each in package.glob('*.py')}
    for name in sorted(modules.keys() - {'version.py'}):
        text = modules[name].read_bytes().replace(b'\r\n', b'\n')
        digest.update(f'{name} {len(text)}\n'.encode() + text)
    return digest.hexdigest()


def known_needs(folder: Path) -> Mapping[str, bool]:
    """For each fix by name, whether the toolbox in a folder needs it; empty for a toolbox that is not known."""
    column = DIGESTS.get(toolbox_digest(folder))
    return {} if column is None else {name: needed[column] for name, needed in NEEDED.items()}

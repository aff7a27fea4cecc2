"""Known toolboxes, and the fixes that each needs.

A probe replaces parts of the process while it runs: `os.environ`, `os.stat`, `sys.argv`, `torch.load`. Another thread
of the program may use them at that moment. So the results for the common toolboxes are stored here, and probes run only
for other toolboxes, for example an edited one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

# Digest of the source -> column of NEEDED.
DIGESTS: dict[str, int] = {
    'd05dc958ef33f9cb3ed9b4fbc507c849ddaa8a976921aa7d3237b4ed855f9342': 0,
    'b375a423968948a51b51f28ac0725ca2e016e6f925a8cb5c31a738fac9275ae6': 1,
}
# For each fix, whether it is needed by
#   PyPI's 1.4.2, and
#   GitHub's master (8d56e3a); PyPI's new-basicsr 1.0.0 has the same files.
# A fix without a probe counts as needed. `Fix.is_called_for` depends on the computer and is checked in any case.
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
    'weights_have_one_reader': (True, True),
    'training_states_are_saved_whole': (True, True),
    'networks_are_on_the_gpu_at_hand': (True, True),
    'wrap_without_cuda': (True, True),
    'ema_copies_buffers': (True, True),
    'last_validation_at_the_last_iteration': (True, True),
    'ranks_wait_for_validation': (True, True),
    'multistep_reaches_base_rate': (True, True),
    'cosine_stays_at_its_end': (True, True),
    'option_file_schedule_wins': (True, True),
    'unreadable_images_are_named': (True, True),
    'shown_tensors_stay_as_they_are': (True, True),
    'images_are_written_under_any_name': (True, True),
    'undefined_results_are_named': (True, True),
    'lmdb_stores_are_shared': (True, True),
    'bytes_know_their_source': (True, True),
    'nested_folders': (True, True),
    'stray_files_are_left_out': (True, True),
    'mismatched_pairs_are_named': (True, True),
    'meta_info_keeps_the_clip': (True, True),
    'missing_stores_and_keys': (True, True),
    'empty_datasets': (True, True),
    'jpeg_quality_is_an_integer': (True, True),
    'epochs_of_whole_batches': (True, True),
    'epoch_follows_the_iteration': (True, True),
    'indices_know_their_epoch': (True, True),
    'every_sample_has_its_seed': (True, True),
    'prefetching_passes_errors_on': (True, True),
    'cuda_prefetcher_needs_cuda': (True, True),
    'no_epoch_before_the_first': (True, True),
    'ssim_filters_rows_and_columns': (True, True),
    'niqe_without_a_value_is_nan': (True, True),
    'stylegan2_runs_without_extensions': (True, True),
    'degradations_are_made_on_the_device': (True, True),
    'pictures_of_any_layout_are_filtered': (True, True),
    'video_scores_are_on_the_device': (True, True),
    'clips_keep_their_batch_axis': (True, True),
    'basicvsrpp_aligns_without_cuda': (True, True),
    'pictures_are_extended_to_what_the_network_accepts': (True, True),
    'colour_conversions_are_also_in_matlab_functions': (True, True),
    'losses_are_also_in_one_module': (True, True),
    'spawned_workers_import_the_fixes': (True, True),
    'workers_heed_their_parent_alone': (True, True),
    'log_lines_have_time_and_pace': (True, True),
    'progress_is_followed': (True, True),
    'several_validation_sets_are_no_warning': (True, True),
    'runs_stop_when_asked': (True, True),
    'owed_validations_are_made': (True, True),
}


def toolbox_digest(folder: Path) -> str:
    """SHA-256 over a toolbox's source, in hexadecimal digits.

    It covers the names and texts of all modules in its packages. Line endings are ignored. So is `version.py`, which
    contains the build time. A checkout and a wheel installed from it have the same digest.

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
    """For each fix by name, whether the toolbox in a folder needs it; empty for an unknown toolbox."""
    column = DIGESTS.get(toolbox_digest(folder))
    return {} if column is None else {name: needed[column] for name, needed in NEEDED.items()}

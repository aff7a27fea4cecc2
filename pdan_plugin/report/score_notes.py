"""Notes on scores that cannot simply be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pdan_plugin.models.scores_record import mean_of
from pdan_plugin.report.scored_run import DatasetScores, metric_options


def score_notes(runs: Mapping[str, DatasetScores], asked: str | None) -> list[str]:
    """Notes on metrics that a run lacks, that were computed with other options, or that have non-finite values.

    Args:
        runs: Label of the run -> its scores of one data set.
        asked: The metric requested for choosing frames.
    """
    notes = []
    metrics = list(dict.fromkeys(name for scores in runs.values() for name in scores.metrics))
    shared = [name for name in metrics if all(name in scores.metrics for scores in runs.values())]
    if asked is not None and asked not in shared:
        notes.append(f'Not all runs have {asked} here, so frames were not chosen by it.')
    if metrics and not shared:
        notes.append('The runs have no metric in common; the frames shown are spread over the data set.')
    for metric in metrics:
        owners = {label: scores for label, scores in runs.items() if metric in scores.metrics}
        lacking = [label for label in runs if label not in owners]
        if lacking:
            notes.append(f'Not scored by {metric}, so those cells are empty: {", ".join(lacking)}.')
        first, *others = owners
        options = metric_options(owners[first].metrics[metric])
        different = [label for label in others if metric_options(owners[label].metrics[metric]) != options]
        if different:
            notes.append(
                f'{metric} was computed with other options in {", ".join(different)} than in {first} (see test.json); '
                'its values cannot be compared.'
            )
        notes += filter(None, (_not_finite(label, scores, metric) for label, scores in owners.items()))
    return notes


def _not_finite(label: str, scores: DatasetScores, metric: str) -> str | None:
    values = [row.values[metric] for row in scores.images]
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) == len(values):
        return None
    endless, none = sum(map(math.isinf, values)), sum(map(math.isnan, values))
    counts = [f'infinite on {endless}'] if endless else []
    counts += [f'no number on {none}'] if none else []
    perfect = ' (infinite PSNR: equal to the ground truth)' if endless and 'psnr' in metric.lower() else ''
    rest = f'; the mean of the other {len(finite)} is {mean_of(finite):.6g}' if finite else ''
    return f'{label}: {metric} is {" and ".join(counts)} of {len(values)} images{perfect}, and so is its mean{rest}.'

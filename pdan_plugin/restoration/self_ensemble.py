"""Geometric self-ensemble: restores the eight flips and transpositions of a picture and averages the results.

Source: Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016; called x8 or "+"
since EDSR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from torch import Tensor


@dataclass(frozen=True)
class GeometricForm:
    """One of the eight symmetries of a square, for pictures (..., h, w): a transposition, then flips."""

    transposed: bool = False
    flipped_rows: bool = False
    flipped_columns: bool = False

    def apply(self, picture: Tensor) -> Tensor:
        """(..., h, w) -> (..., h, w), or (..., w, h) if the form transposes."""
        return self._flip(picture.transpose(-2, -1) if self.transposed else picture)

    def undo(self, picture: Tensor) -> Tensor:
        """The inverse of :meth:`apply`, for a picture of any scale."""
        picture = self._flip(picture)
        return picture.transpose(-2, -1) if self.transposed else picture

    def _flip(self, picture: Tensor) -> Tensor:
        dims = [dim for dim, flipped in ((-2, self.flipped_rows), (-1, self.flipped_columns)) if flipped]
        return picture.flip(dims) if dims else picture


GEOMETRIC_FORMS = tuple(GeometricForm(*choice) for choice in product((False, True), repeat=3))


def self_ensemble(restore: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Wraps a function of pictures (b, c, h, w) -> (b, c', s * h, s * w); returns the mean over all eight forms.

    Each result is transformed back and added to a float32 sum, so memory holds one form and the sum. It takes eight
    times as long. The result is float32, on the device of the wrapped function's result.
    """

    def restore_all_forms(batch: Tensor) -> Tensor:
        return mean_over_forms(lambda form: restore(form.apply(batch).contiguous()))

    return restore_all_forms


def mean_over_forms(restore_form: Callable[[GeometricForm], Tensor]) -> Tensor:
    """The mean of the eight forms' results, each transformed back; ``restore_form`` restores one form."""
    total: Tensor | None = None
    for form in GEOMETRIC_FORMS:
        restored = form.undo(restore_form(form)).float()
        if total is None:
            total = restored.clone()
        else:
            total += restored
        del restored
    assert total is not None
    return total / len(GEOMETRIC_FORMS)

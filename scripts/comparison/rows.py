"""The rows of the tables, their option files, and the rows that the sheet shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.spelling import did_you_mean

BICUBIC, PDAN = 'bicubic', 'pdan'


@dataclass(frozen=True)
class Row:
    """A row: its name in commands, its title in the table, its option file under ``options/``.

    A row whose option file has no section ``train`` is not trained; it is tested once.
    """

    name: str
    title: str
    file: str


@dataclass(frozen=True)
class Comparison:
    """Both tables. ``ablation`` is in the order in which parts are added; ``sheet`` has names of ``baselines`` rows."""

    baselines: tuple[Row, ...]
    ablation: tuple[Row, ...]
    sheet: tuple[str, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, those of ``baselines`` first."""
        return self.baselines + self.ablation

    def chosen(self, names: Iterable[str]) -> list[Row]:
        """The rows of these names, in the tables' order.

        Raises:
            RequestError: There is no row of such a name.
        """
        names, known = list(names), [row.name for row in self.rows]
        for name in names:
            if name not in known:
                raise RequestError(f'there is no row {name!r}{did_you_mean(name, known)}')
        return [row for row in self.rows if row.name in names]


def _ablation(folder: str) -> tuple[Row, ...]:
    return (
        Row('base', 'base (RCAN)', f'{folder}/base.yml'),
        Row('rsca', '+ RSCA', f'{folder}/rsca.yml'),
        Row('dual_branch', '+ dual branch and fusion', f'{folder}/dual_branch.yml'),
        Row('hpem', '+ HPEM (PDAN)', f'{folder}/hpem.yml'),
    )


SMALL = Comparison(
    baselines=(
        Row(BICUBIC, 'bicubic', 'baselines/small/bicubic.yml'),
        Row('edsr', 'EDSR', 'baselines/small/edsr.yml'),
        Row('rcan', 'RCAN', 'baselines/small/rcan.yml'),
        Row('rcan_wide', 'RCAN, as wide as PDAN', 'baselines/small/rcan_wide.yml'),
        Row('drn_s', 'DRN-S', 'baselines/small/drn_s.yml'),
        Row('drn_l', 'DRN-L', 'baselines/small/drn_l.yml'),
        Row('swinir', 'SwinIR', 'baselines/small/swinir.yml'),
        Row(PDAN, 'PDAN', 'baselines/small/pdan.yml'),
    ),
    ablation=_ablation('ablation/small'),
    sheet=('edsr', 'rcan_wide', 'drn_l', 'swinir', PDAN),
)

FULL = Comparison(
    baselines=(
        Row(BICUBIC, 'bicubic', 'baselines/bicubic.yml'),
        Row('edsr', 'EDSR', 'baselines/edsr.yml'),
        Row('rcan', 'RCAN', 'baselines/rcan.yml'),
        Row('rcan_128', 'RCAN-128', 'baselines/rcan_128.yml'),
        Row('drn_s', 'DRN-S', 'baselines/drn_s.yml'),
        Row('drn_l', 'DRN-L', 'baselines/drn_l.yml'),
        Row('swinir', 'SwinIR', 'baselines/swinir.yml'),
        Row(PDAN, 'PDAN', 'ablation/hpem.yml'),
    ),
    ablation=_ablation('ablation'),
    sheet=('edsr', 'rcan_128', 'drn_l', 'swinir', PDAN),
)

"""Reports on test runs: pictures side by side, tables, figures."""

from pdan_plugin.report.picture_sheet import ComparedFrames, Scores, evenly_spread

__all__ = ['ComparedFrames', 'Scores', 'evenly_spread']

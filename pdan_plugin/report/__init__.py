"""What a run of tests looks like: pictures side by side, and tables."""

from pdan_plugin.report.picture_sheet import Comparison, Scores, evenly_spread

__all__ = ['Comparison', 'Scores', 'evenly_spread']

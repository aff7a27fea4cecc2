"""What a run of tests looks like: pictures side by side, and tables."""

from pdan_plugin.report.picture_sheet import ComparedFrames, Scores, evenly_spread

__all__ = ['ComparedFrames', 'Scores', 'evenly_spread']

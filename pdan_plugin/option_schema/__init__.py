"""What an option file may say: checked before the toolbox sees it."""

from pdan_plugin.option_schema.check import check_options

__all__ = ['check_options']

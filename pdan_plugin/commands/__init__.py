"""The command line: arguments, one call into the room that does the work, and the exit status."""

from pdan_plugin import prepare_toolbox
from pdan_plugin.processes.command_start import refusals_end_the_command

with refusals_end_the_command():
    prepare_toolbox()

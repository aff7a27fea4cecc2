"""The command line: arguments, the checks before a run, one call into the room that does the work, the exit status."""

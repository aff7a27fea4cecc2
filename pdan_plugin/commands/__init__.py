"""The command line: arguments, one call into the room that does the work, and the exit status."""

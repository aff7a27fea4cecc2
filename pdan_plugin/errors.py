"""The one exception that means: what was asked for cannot be done as it was asked."""


class RequestError(ValueError):
    """A request the user can mend: an option file, a path, a data set, a weights file.

    The message names the file, key, shape or sample at fault, says what was expected, and says what to do. Commands
    print it without a traceback and exit with status 2. What can be found before a run is found before anything is
    written; some of it, such as a picture that turns out to be damaged, shows only on the way.
    """

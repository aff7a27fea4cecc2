"""Everyday pictures restored by this project and by other programs, compared by their gain over bicubic."""

import pdan_plugin  # noqa: F401  (repairs the toolbox so that it imports)

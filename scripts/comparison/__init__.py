"""Makes the paper's two tables by training and testing every row."""

import pdan_plugin  # noqa: F401  (repairs the toolbox so that it imports)

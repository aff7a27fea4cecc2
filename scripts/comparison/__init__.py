"""The paper's two tables, made by training and testing every row of them."""

import pdan_plugin  # noqa: F401  (mends the toolbox so that it imports)

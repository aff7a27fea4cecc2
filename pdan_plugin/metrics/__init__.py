"""How good a picture is: metrics registered in the toolbox's metric registry, and no-reference sharpness."""

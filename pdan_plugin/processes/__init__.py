"""Several processes of one run: how they are launched, how they meet and how they end."""

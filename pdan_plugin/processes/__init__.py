"""Several processes of one run: launching them, forming a group, and ending."""

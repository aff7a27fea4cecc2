"""Merging several models' results."""

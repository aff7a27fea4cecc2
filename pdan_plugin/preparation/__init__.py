"""Makes the stores that training reads, from REDS's folders and zips or by synthesis from sharp clips.

Imports from data and synthesis, not from training.
"""

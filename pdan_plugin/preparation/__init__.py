"""Makes the stores that training reads, from REDS's folders and zips or by synthesis from sharp clips.

It imports from data, synthesis, media and the rooms below them, and not from training.
"""

"""Making the stores that training reads: out of REDS's folders and zips, or synthesised from sharp clips.

It knows data and synthesis, and nothing of training.
"""

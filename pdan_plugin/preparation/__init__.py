"""Makes the data that training reads: stores from REDS or by synthesis, pairs of pictures, clips from photographs.

It imports from data, synthesis, media and the rooms below them, and not from training.
"""

"""Placement as MuxServe's authors published it: their estimates and their greedy search, with its faults or mended."""

"""Searches that muxjax adds to MuxServe's: a better one for any size, a proof for small ones, and an upper bound."""

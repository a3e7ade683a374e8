"""Measure muxjax's speed on this machine: `python -m muxjax.bench`."""

"""Whole steps and a whole unit on an NVIDIA GPU: `python -m muxjax.bench.gpu`."""

"""Serve LLMs: `python -m muxjax.serve [CONFIG]`."""

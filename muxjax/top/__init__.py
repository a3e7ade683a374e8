"""Watch a running server from a terminal: `python -m muxjax.top`."""

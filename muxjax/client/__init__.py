"""Talk to a running server from the command line: `python -m muxjax.client`."""

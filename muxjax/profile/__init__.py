"""`python -m muxjax.profile`: what prefills and decode steps cost on this device."""

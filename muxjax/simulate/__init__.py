"""What a placement gives, before any GPU is rented: `python -m muxjax.simulate`."""

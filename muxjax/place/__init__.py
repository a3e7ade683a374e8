"""`python -m muxjax.place`: which LLMs share which GPUs."""

"""The compile gate: every kernel and whole steps compiled for GPUs that are not here, and what is wrong with them."""

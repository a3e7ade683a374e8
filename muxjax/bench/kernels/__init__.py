"""The kernels on an NVIDIA GPU against its limits and their rivals: `python -m muxjax.bench.kernels`."""

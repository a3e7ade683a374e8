"""Attention of chunks of several sequences over themselves and their past in the pool."""

from muxjax.pallas_kernels.ragged_prefill.api import ragged_prefill

__all__ = ["ragged_prefill"]

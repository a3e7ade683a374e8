"""Attention of one new token per sequence over its past in the pool."""

from muxjax.pallas_kernels.paged_decode.api import paged_decode

__all__ = ["paged_decode"]

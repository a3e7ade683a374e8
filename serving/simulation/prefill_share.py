"""How much of a device MuxServe gives to prefills."""

from muxjax.placement.model_shape import ModelShape


def prefill_share(shape: ModelShape) -> int:
    """Compute share of an LLM's prefill process, in percent: 80 for 7B, 90 for 13B, all for larger ones.

    So its authors ran their power-law workload. Small models' prefills leave room for a decode of 30% beside them.
    """
    return 80 if shape.weight_gb < 20 else 90 if shape.weight_gb < 40 else 100

"""Serve many LLMs of different size and popularity from shared devices."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muxjax.llm import LLM, Completion
    from muxjax.serving.request import SamplingParams

__all__ = ["LLM", "Completion", "SamplingParams"]


def __getattr__(name: str) -> object:
    """Import the public names when they are used: commands that need no JAX start without it."""
    if name == "SamplingParams":
        from muxjax.serving.request import SamplingParams

        return SamplingParams
    if name in __all__:
        import muxjax.llm

        return getattr(muxjax.llm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What can be changed while a unit serves."""

from typing import Protocol

from muxjax.serving.spec import LLMSpec


class ManagementError(Exception):
    """The change cannot be made; the message says why, and what to do."""


class ManagedUnit(Protocol):
    """The changes; all raise ManagementError, and may be called from any thread."""

    def load(self, spec: LLMSpec) -> None:
        """Begin to load an LLM more, or again one that failed; `Progress` tells how that goes."""
        ...

    def unload(self, llm: str, seconds: float) -> None:
        """Take no more requests, wait so long for those that run, end the rest, and give its memory back."""
        ...

    def drain_llm(self, llm: str) -> None:
        """Take no more requests; what runs finishes."""
        ...

    def resume_llm(self, llm: str) -> None:
        """Take requests again."""
        ...

    def set_rate(self, llm: str, rate: float) -> None:
        """Change an LLM's popularity, and with it what of the pool every LLM is entitled to."""
        ...

    def set_quota(self, llm: str, blocks: int) -> None:
        """Change how many head blocks an LLM may hold; a policy that adapts quotas goes on from there."""
        ...

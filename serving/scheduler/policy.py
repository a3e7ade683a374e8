"""What decides which LLM's jobs start next."""

from collections.abc import Mapping
from collections.abc import Sequence as Series
from typing import Protocol

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.job_starter import JobStarter
from muxjax.serving.scheduler.share import LLMShare


class Policy(Protocol):
    """An order in which LLMs start their jobs; one instance serves one scheduler."""

    def initial_quotas(self, pool: Pool, shares: Mapping[str, LLMShare]) -> dict[str, int]:
        """Each LLM's quota at the start, in head blocks: enough for one sequence of the longest context that fits."""
        ...

    def start_jobs(self, starter: JobStarter, now: float) -> None:
        """Start the jobs that are to run now."""
        ...

    def decode_repeated(self, llm: str, blocks: Series[int]) -> None:
        """A decode in flight goes on for more steps; `blocks`: the head blocks that the LLM holds at each's start."""
        ...

    def keeps_turn(self, starter: JobStarter, llm: str) -> bool:
        """Whether the LLM's decode, when it ends and nothing else happens, starts again before decodes that wait."""
        ...

    @property
    def next_change(self) -> float:
        """When it will decide otherwise, though no job ended differently and nothing arrived; infinity: never."""
        ...

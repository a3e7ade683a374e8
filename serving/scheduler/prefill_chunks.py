"""How large a prefill chunk may be: the compute share of prefills, chosen step by step."""

from collections.abc import Mapping

from muxjax.serving.scheduler.job import MIN_CHUNK_TOKENS, JobKind
from muxjax.serving.scheduler.job_times import JobTimes
from muxjax.serving.scheduler.llm_queue import LLMQueue


class PrefillChunks:
    """Chooses the most tokens of the next prefill by what LLMs promise.

    Running decodes wait for the chunk beside them. So it is the largest one with which the step, by what jobs took
    lately, is as short as the time between tokens that an LLM among them promises (`LLMShare.tpot`). But a prompt whose
    first token would come too late so (`LLMShare.ttft`), and in time with a larger chunk, gets the smallest such one:
    it would miss its target for good, and decodes, whose target is a mean, can make up for a long step.
    """

    def __init__(self, queues: Mapping[str, LLMQueue], times: JobTimes, max_tokens: int) -> None:
        """Chunks have from MIN_CHUNK_TOKENS, doubling, to `max_tokens` tokens."""
        self._queues = queues
        self._times = times
        sizes = []
        size = min(MIN_CHUNK_TOKENS, max_tokens)
        while size < max_tokens:
            sizes.append(size)
            size *= 2
        self._sizes = (*sizes, max_tokens)

    def most_tokens(self, llm: str, now: float) -> int:
        """Of the LLM's next prefill, which has a prompt to start with."""
        decoding = {name: len(queue.decoding) for name, queue in self._queues.items() if queue.decoding}
        promised = [self._queues[name].share.tpot for name in decoding]
        target = min((tpot for tpot in promised if tpot is not None), default=None)
        chunk_seconds = {size: self._times.seconds(llm, JobKind.PREFILL, size) for size in self._sizes}
        known = {size: seconds for size, seconds in chunk_seconds.items() if seconds is not None}
        if target is None or not known:
            return self._sizes[-1]
        decodes = sum(self._times.seconds(name, JobKind.DECODE, rows) or 0.0 for name, rows in decoding.items())
        steps = {size: seconds + decodes for size, seconds in known.items()}
        size = max((size for size, seconds in steps.items() if seconds <= target), default=self._sizes[0])
        if self._is_in_time(llm, size, steps[size], now):
            return size
        return next((larger for larger in self._sizes if self._is_in_time(llm, larger, steps[larger], now)), size)

    def _is_in_time(self, llm: str, size: int, step: float, now: float) -> bool:
        """Whether the LLM's next prompt has its first token when promised, in chunks of a size that take so long."""
        queue = self._queues[llm]
        sequence = queue.next_prefill
        if queue.share.ttft is None or sequence is None:
            return True
        chunks = -(-sequence.num_uncomputed // size)
        return now + chunks * step <= sequence.arrival + queue.share.ttft

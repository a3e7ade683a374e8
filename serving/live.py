"""The completions that the engine has taken and that have not ended."""

import logging
from collections.abc import Iterable, Mapping

from muxjax.serving.completion import Completion
from muxjax.serving.executor.launch import SampledToken
from muxjax.serving.outbox import Outbox
from muxjax.serving.request import FinishReason, Output
from muxjax.serving.sampling import NOT_FINITE
from muxjax.serving.scheduler.job import JobKind, Step
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.statistics import LLMStatistics
from muxjax.serving.trace import TraceWriter
from muxjax.serving.unit import Deliver

_log = logging.getLogger(__name__)


class LiveCompletions:
    """Hands out what completions gain and how they end, and notes it in the statistics.

    It belongs to the engine, whose lock every caller holds.

    Attributes:
        completions: by the ids of their sequences; to read only.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        statistics: Mapping[str, LLMStatistics],
        outbox: Outbox,
        trace: TraceWriter | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._trace = trace
        self._statistics = statistics
        self._outbox = outbox
        self.completions: dict[int, Completion] = {}
        self._receivers: dict[int, Deliver] = {}

    def __len__(self) -> int:
        return len(self.completions)

    def add(self, completion: Completion, deliver: Deliver) -> None:
        """Take a completion whose sequence the scheduler has."""
        self.completions[completion.sequence.id] = completion
        self._receivers[completion.sequence.id] = deliver

    def of_llm(self, llm: str) -> list[int]:
        """The sequences of one LLM."""
        return [id_ for id_, completion in self.completions.items() if completion.request.llm == llm]

    def of_requests(self, request_ids: set[str]) -> list[int]:
        """The sequences of these requests."""
        return [id_ for id_, completion in self.completions.items() if completion.request.id in request_ids]

    def started(self, step: Step, now: float) -> None:
        """A step is about to run; it is the first of some completions."""
        for job in step.jobs:
            if job.kind is JobKind.PREFILL:
                for chunk in job.chunks:
                    timing = self.completions[chunk.sequence.id].timing
                    timing.started = timing.started or now

    def book(self, token: SampledToken, now: float) -> None:
        """Hand out a token that was read, or find that the completion cannot go on."""
        sequence = token.chunk.sequence
        completion = self.completions[sequence.id]
        if token.token_id == NOT_FINITE:
            self.end([sequence.id], FinishReason.ERROR, now, "the model's scores are not finite numbers")
            return
        try:
            output = completion.append(token.token_id, token.logprobs)
        except Exception as error:  # of the tokenizer: it is this request's only
            _log.exception("request %s: token %d cannot be added", completion.request.id, token.token_id)
            self.end([sequence.id], FinishReason.ERROR, now, f"{type(error).__name__} in the tokenizer")
            return
        self._statistics[sequence.llm].token_read(completion.timing, now)
        self._outbox.put(self._receivers[sequence.id], output)
        if output.finish_reason is not None:
            self._scheduler.finish(sequence, now)
            self._forget(sequence.id, output.finish_reason, now)

    def end(self, sequence_ids: Iterable[int], reason: FinishReason, now: float, error: str | None = None) -> None:
        """End completions for another reason than their tokens."""
        for sequence_id in sequence_ids:
            self._scheduler.abort(sequence_id, now)
            self._outbox.put(self._receivers[sequence_id], _last_output(self.completions[sequence_id], reason, error))
            self._forget(sequence_id, reason, now)

    def _forget(self, sequence_id: int, reason: FinishReason, now: float) -> None:
        completion = self.completions.pop(sequence_id)
        del self._receivers[sequence_id]
        statistics = self._statistics[completion.request.llm]
        statistics.completion_ended(reason, completion.timing, completion.num_generated, now)
        if self._trace is not None:
            self._trace.completion(completion, reason, now)


def _last_output(completion: Completion, reason: FinishReason, error: str | None) -> Output:
    try:
        return completion.end(reason, error)
    except Exception:  # the tokenizer cannot give the text that was held back: the end comes without it
        _log.exception("request %s: the last text is lost", completion.request.id)
        return Output(completion.request.id, completion.index, finish_reason=reason, error=error)

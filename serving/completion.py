"""One completion of a request on the host: its tokens, its text, and when it ends."""

from muxjax.models.detokenizer import Detokenizer
from muxjax.models.tokenizer import Tokenizer
from muxjax.serving.request import FinishReason, Output, Request, TokenLogprobs
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.statistics import Timing
from muxjax.serving.stop import StopStrings


class Completion:
    """Turns sampled tokens into outputs.

    Attributes:
        request: whose completion this is.
        index: which of the request's n.
        sequence: its place in the scheduler.
        token_ids: the prompt and the tokens read so far.
        end_ids: tokens that end it.
        is_finished: whether its last output was made.
        timing: when it came to what.
    """

    def __init__(
        self,
        request: Request,
        index: int,
        sequence: Sequence,
        *,
        tokenizer: Tokenizer | None,
        eos_token_ids: tuple[int, ...],
    ) -> None:
        sampling = request.sampling
        self.request = request
        self.index = index
        self.sequence = sequence
        self.token_ids = list(request.prompt_token_ids)
        self.end_ids = (*sampling.stop_token_ids, *(() if sampling.ignore_eos else eos_token_ids))
        self.is_finished = False
        self.timing = Timing(sequence.arrival)
        self._detokenizer = Detokenizer(tokenizer, request.prompt_token_ids) if tokenizer is not None else None
        self._stop = StopStrings(sampling.stop)

    @property
    def num_generated(self) -> int:
        """Tokens of the completion so far."""
        return len(self.token_ids) - len(self.request.prompt_token_ids)

    def append(self, token_id: int, logprobs: TokenLogprobs | None) -> Output:
        """Take the next token. Returns what it adds; with a finish reason if the completion ends here."""
        self.token_ids.append(token_id)
        can_stop = self.num_generated > self.request.sampling.min_tokens
        is_end = can_stop and token_id in self.end_ids
        # The end token itself is no text, even where the tokenizer has some for it.
        text = self._detokenizer.push([token_id]) if self._detokenizer and not is_end else ""
        text, stopped = self._stop.push(text, can_stop=self.num_generated >= self.request.sampling.min_tokens)
        if is_end or stopped:
            reason = FinishReason.STOP
        elif len(self.token_ids) >= self.sequence.max_length:
            reason = FinishReason.LENGTH
        else:
            reason = None
        if reason is not None and not stopped:
            rest, stopped = self._stop.push(self._detokenizer.finish() if self._detokenizer else "")
            text += rest if stopped else rest + self._stop.flush()
        self.is_finished = reason is not None
        return Output(
            request_id=self.request.id,
            index=self.index,
            token_ids=(token_id,),
            text=text,
            logprobs=() if logprobs is None else (logprobs,),
            finish_reason=reason,
        )

    def end(self, reason: FinishReason, error: str | None = None) -> Output:
        """The last output of a completion that ends for another reason than its tokens."""
        self.is_finished = True
        rest = self._detokenizer.finish() if self._detokenizer else ""
        text, stopped = self._stop.push(rest)
        return Output(
            request_id=self.request.id,
            index=self.index,
            text=text if stopped else text + self._stop.flush(),
            finish_reason=reason,
            error=error,
        )

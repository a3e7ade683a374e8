"""A unit whose executor costs nothing: what remains is the frontends' work."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from muxjax.serving.endpoint import Endpoint
from muxjax.serving.request import FinishReason, Output, Request
from muxjax.serving.unit import Deliver, UnitStatus

MODEL = "free"


class NoTokenizer:
    """Every text is one token."""

    takes_tools = False

    def encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        """One token."""
        return [1]

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> list[int]:
        """One token."""
        return [1]

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Nothing asks for it."""
        return ""

    def token_bytes(self, token: int, previous: int | None, /) -> bytes:
        """Nothing asks for it."""
        return b""


ENDPOINT = Endpoint(MODEL, vocab_size=2, max_context=1 << 20, tokenizer=NoTokenizer())


class FreeUnit:
    """Gives every request a token a step; the token's text is when it was made, in nanoseconds of the system's clock.

    Steps begin when all streams are there, and come at the pace that makes `rate` tokens a second of all streams.
    A unit that is behind its pace makes up for it, as a real one would not: the rate is what the frontends are offered.
    """

    def __init__(self, rate: float, streams: int) -> None:
        self._seconds = streams / rate
        self._streams = streams
        self._live: dict[str, tuple[Deliver, int]] = {}
        self._lock = threading.Lock()
        self._full = threading.Event()

    def submit(self, request: Request, deliver: Deliver) -> None:
        """See `Unit`."""
        with self._lock:
            self._live[request.id] = (deliver, request.sampling.max_tokens or 1)
            if len(self._live) >= self._streams:
                self._full.set()

    def abort(self, request_id: str) -> None:
        """See `Unit`."""
        with self._lock:
            self._live.pop(request_id, None)

    def seconds_since_turn(self, llm: str) -> float:
        """It never hangs."""
        return 0.0

    def status(self) -> UnitStatus:
        """Nothing to tell."""
        return UnitStatus((), blocks_total=0, blocks_free=0, steps=0, fairness_gap=0.0)

    def run(self) -> None:
        """Serve one set of streams after another, for ever."""
        while True:
            self._full.wait()
            self._full.clear()
            next_step = time.monotonic()
            while self._live:
                self._step()
                next_step += self._seconds
                time.sleep(max(0.0, next_step - time.monotonic()))

    def _step(self) -> None:
        with self._lock:
            text = f"{time.monotonic_ns()} "
            receivers: dict[Deliver, list[Output]] = {}
            for request_id, (deliver, left) in list(self._live.items()):
                reason = FinishReason.LENGTH if left == 1 else None
                receivers.setdefault(deliver, []).append(
                    Output(request_id, 0, token_ids=(1,), text=text, finish_reason=reason)
                )
                if left == 1:
                    del self._live[request_id]
                else:
                    self._live[request_id] = (deliver, left - 1)
        for deliver, outputs in receivers.items():
            deliver(outputs)

"""How much one API key may use in a minute."""

import time
from collections.abc import Callable

from muxjax.serving.unit import RefusedError

_MINUTE = 60.0


class RateLimited(RefusedError):
    """The key has used up what it has in a minute."""


class Allowance:
    """An amount that refills steadily and holds a minute's worth (a token bucket). It can be overdrawn.

    Args:
        per_minute: what comes in a minute, and the most that can be saved up.
        clock: seconds.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._level = per_minute
        self._clock = clock
        self._updated = clock()

    def seconds_until(self, amount: float) -> float:
        """How long until so much is there, or all that can ever be; 0 if it is there now."""
        self._refill()
        return max(0.0, (min(amount, self._most) - self._level) * _MINUTE / self._most)

    def spend(self, amount: float) -> None:
        """Take so much, whether it is there or not."""
        self._refill()
        self._level -= amount

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._updated) * self._most / _MINUTE)
        self._updated = now


class RateLimits:
    """The requests and the tokens, of prompts and completions together, of one key.

    A prompt is paid when its request comes, a completion when it has ended: what was too much is waited for.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = None if requests_per_minute is None else Allowance(requests_per_minute, clock)
        self._tokens = None if tokens_per_minute is None else Allowance(tokens_per_minute, clock)

    def take_request(self, prompt_tokens: int) -> None:
        """Pay for a request and its prompt. Raises RateLimited, and then nothing is paid."""
        for allowance, amount, what in ((self._requests, 1, "requests"), (self._tokens, prompt_tokens, "tokens")):
            seconds = 0.0 if allowance is None else allowance.seconds_until(amount)
            if seconds > 0:
                raise RateLimited(f"this key has used up its {what} per minute; more in {seconds:.1f} s", seconds)
        if self._requests is not None:
            self._requests.spend(1)
        self.take_tokens(prompt_tokens)

    def take_tokens(self, amount: int) -> None:
        """Pay for tokens that were made."""
        if self._tokens is not None:
            self._tokens.spend(amount)

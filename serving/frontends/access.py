"""Who may ask what: API keys, and the callers that they stand for."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from muxjax.serving.errors import RequestError
from muxjax.serving.frontends.rate_limit import RateLimits

_SCHEME = "bearer "


class Unauthenticated(RequestError):
    """The server wants an API key, and this is none of its."""


class Forbidden(RequestError):
    """The API key is not for this."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request; all requests under one key have one caller.

    Attributes:
        name: what logs call it; never the key.
        models: the LLMs that it may ask; None for all.
        limits: what it has left.
    """

    name: str
    models: frozenset[str] | None = None
    limits: RateLimits = field(default_factory=RateLimits)

    def may_ask(self, model: str) -> bool:
        """Whether the LLM is one that it may ask."""
        return self.models is None or model in self.models

    def check_model(self, model: str) -> None:
        """Raises Forbidden for an LLM that it may not ask."""
        if not self.may_ask(model):
            raise Forbidden(f"this API key is not for the model {model!r}")


ANYONE = Caller("anyone")
"""The caller where no keys are asked for."""


def digest(key: str) -> bytes:
    """What is kept of a key: keys are long random strings, so that a plain hash does not give them away."""
    return hashlib.sha256(key.encode()).digest()


class AccessControl:
    """Finds the caller of a request by its key.

    Args:
        callers: by the digests of their keys; none lets everyone in as ANYONE.
    """

    def __init__(self, callers: Sequence[tuple[bytes, Caller]] = ()) -> None:
        self._callers = tuple(callers)

    @property
    def is_open(self) -> bool:
        """Whether no keys are asked for."""
        return not self._callers

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller of a request with this `Authorization` header (HTTP) or metadata (gRPC).

        All keys are compared, each in constant time: how long it takes says nothing about them.

        Raises:
            Unauthenticated: there is no key, or an unknown one.
        """
        if self.is_open:
            return ANYONE
        if authorization is None or not authorization.lower().startswith(_SCHEME):
            raise Unauthenticated("an API key is needed: send it as Authorization: Bearer KEY")
        sent = digest(authorization[len(_SCHEME) :].strip())
        found = [caller for known, caller in self._callers if hmac.compare_digest(known, sent)]
        if not found:
            raise Unauthenticated("the API key is not known here")
        return found[0]

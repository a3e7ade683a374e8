"""Several units as one: each request goes to the unit that has its LLM."""

from collections.abc import Callable, Sequence

from muxjax.serving.engine import Engine
from muxjax.serving.errors import UnknownModel
from muxjax.serving.management import ManagementError
from muxjax.serving.request import Request
from muxjax.serving.spec import LLMSpec
from muxjax.serving.unit import Deliver, UnitStatus


class Router:
    """Implements `Unit` and `ManagedUnit` over engines, each with devices, a pool and a loop of its own.

    An LLM is in one of them; which one may change while they serve.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        """At least one."""
        self._engines = tuple(engines)

    def start(self) -> None:
        """Begin to load, side by side."""
        for engine in self._engines:
            engine.start()

    def submit(self, request: Request, deliver: Deliver) -> None:
        """See `Unit`."""
        engine = self._find(request.llm)
        if engine is None:
            raise UnknownModel(request.llm, [llm for other in self._engines for llm in other.llms])
        engine.submit(request, deliver)

    def abort(self, request_id: str) -> None:
        """See `Unit`; an engine ignores ids that it does not know."""
        for engine in self._engines:
            engine.abort(request_id)

    def status(self) -> UnitStatus:
        """All LLMs, and the sums over the units; of what is no sum, the mean, and of the fairness gaps the largest."""
        units = [engine.status() for engine in self._engines]
        return UnitStatus(
            llms=tuple(llm for unit in units for llm in unit.llms),
            blocks_total=sum(unit.blocks_total for unit in units),
            blocks_free=sum(unit.blocks_free for unit in units),
            steps=sum(unit.steps for unit in units),
            fairness_gap=max(unit.fairness_gap for unit in units),
            busy=sum(unit.busy for unit in units) / len(units),
        )

    def seconds_since_turn(self, llm: str) -> float:
        """See `Unit`; for an LLM that is gone, 0."""
        engine = self._find(llm)
        return 0.0 if engine is None else engine.seconds_since_turn(llm)

    def close(self) -> None:
        """End all of them."""
        for engine in self._engines:
            engine.close()

    def load(self, spec: LLMSpec) -> None:
        """See `ManagedUnit`: into the unit that had it, or else the first in which it fits."""
        engine = self._find(spec.name)
        if engine is not None:
            engine.load(spec)
            return
        complaints = []
        for candidate in self._engines:
            try:
                candidate.load(spec)
                return
            except ManagementError as error:
                complaints.append(str(error))
        raise ManagementError("\n".join(dict.fromkeys(complaints)))

    def unload(self, llm: str, seconds: float) -> None:
        """See `ManagedUnit`."""
        self._change(llm, lambda engine: engine.unload(llm, seconds))

    def drain_llm(self, llm: str) -> None:
        """See `ManagedUnit`."""
        self._change(llm, lambda engine: engine.drain_llm(llm))

    def resume_llm(self, llm: str) -> None:
        """See `ManagedUnit`."""
        self._change(llm, lambda engine: engine.resume_llm(llm))

    def set_rate(self, llm: str, rate: float) -> None:
        """See `ManagedUnit`."""
        self._change(llm, lambda engine: engine.set_rate(llm, rate))

    def set_quota(self, llm: str, blocks: int) -> None:
        """See `ManagedUnit`."""
        self._change(llm, lambda engine: engine.set_quota(llm, blocks))

    def _change(self, llm: str, change: Callable[[Engine], None]) -> None:
        engine = self._find(llm)
        if engine is None:
            raise ManagementError(str(UnknownModel(llm, [name for other in self._engines for name in other.llms])))
        change(engine)

    def _find(self, llm: str) -> Engine | None:
        return next((engine for engine in self._engines if llm in engine.llms), None)

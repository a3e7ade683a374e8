"""Units that say what a test wants to see on the page."""

from dataclasses import dataclass, field, replace
from typing import override

from muxjax.serving.spec import SLO
from muxjax.serving.statistics import Percentiles
from muxjax.serving.unit import LLMStatus, UnitStatus
from tests.serving.frontends.echo import EchoUnit

IDLE = LLMStatus("idle", "ready", 0, 0, 0, 300, 0, 0, 0, blocks_entitled=400)
BUSY = LLMStatus(
    "busy",
    "ready",
    waiting=7,
    running=3,
    blocks_used=550,
    blocks_quota=600,
    preemptions=2,
    prompt_tokens=1234,
    generated_tokens=56_789,
    blocks_entitled=500,
    errors=1,
    prefill_share=0.25,
    decode_share=0.75,
    tokens_per_second=123.4,
    ttft=Percentiles(0.089, 0.161, 0.357),
    tpot=Percentiles(0.0085, 0.0092, 0.00999),
    slo=SLO(ttft=0.15, tpot=0.01),
    slo_attainment=0.9996,
)
FAILED = LLMStatus("broken", "failed", 0, 0, 0, 100, 0, 0, 0, error="weights/ is truncated", blocks_entitled=100)

COMPILING = LLMStatus("soon", "compiling", 0, 0, 0, 100, 0, 0, 0, programs_compiled=1, programs_needed=3)


def unit_status(*llms: LLMStatus, steps: int = 4321, busy: float = 0.5) -> UnitStatus:
    """A pool of 1,000 head blocks with these LLMs in it."""
    free = 1000 - sum(llm.blocks_used for llm in llms)
    return UnitStatus(llms, blocks_total=1000, blocks_free=free, steps=steps, fairness_gap=0.125, busy=busy)


def many(number: int) -> UnitStatus:
    """So many LLMs with long names, which share the pool."""
    name = "an-organisation/a-model-with-a-rather-long-name-{}-instruct"
    llm = replace(BUSY, blocks_used=20, blocks_quota=30, blocks_entitled=25, prefill_share=0.01, decode_share=0.02)
    return unit_status(*(replace(llm, name=name.format(index)) for index in range(number)))


@dataclass
class ShownUnit(EchoUnit):
    """Serves like its base, and tells `shown`.

    Attributes:
        shown: its status.
        asked: how often it was asked for it.
    """

    shown: UnitStatus = field(default_factory=lambda: unit_status(BUSY, IDLE, FAILED))
    asked: int = 0

    @override
    def status(self) -> UnitStatus:
        self.asked += 1
        return self.shown

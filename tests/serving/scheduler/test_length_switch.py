"""LLMs whose rotary embedding turns long sequences otherwise: one that grows long is computed again, once."""

import pytest

from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.units import SmallUnit, chunks

PREFILL, DECODE = JobKind.PREFILL, JobKind.DECODE
SWITCH = 20


def unit() -> SmallUnit:
    return SmallUnit("adbs", 16, {"a": LLMShare(1.0, 64, length_switch=SWITCH)})


@pytest.mark.parametrize("prompt", [SWITCH - 3, SWITCH])
def test_the_first_token_past_the_switch_is_computed_with_all_before_it(prompt: int) -> None:
    small = unit()
    sequence = small.add("a", prompt)
    small.run(1 + SWITCH - prompt)
    assert sequence.num_tokens == SWITCH + 1
    step = small.step()
    assert chunks(step, PREFILL) == [(sequence.id, 0, SWITCH + 1)]
    assert chunks(small.step(), DECODE) == [(sequence.id, SWITCH + 1, 1)]
    small.run(30)
    assert sequence.preemptions == 1


@pytest.mark.parametrize(("prompt", "output"), [(SWITCH + 1, 30), (SWITCH - 3, 4), (SWITCH, 1), (3, 10)])
def test_a_sequence_that_is_long_from_the_start_or_never_is_computed_once(prompt: int, output: int) -> None:
    small = unit()
    sequence = small.add("a", prompt, output)
    small.run(40)
    assert sequence.num_tokens == prompt + output
    assert sequence.preemptions == 0


def test_others_go_on() -> None:
    small = unit()
    long, short = small.add("a", SWITCH - 2), small.add("a", 3, output=12)
    small.run(16)
    assert (long.preemptions, short.preemptions) == (1, 0)
    assert short.num_tokens == 15
    assert long.num_tokens > SWITCH + 5

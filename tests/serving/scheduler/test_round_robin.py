"""Round-robin with fixed quotas."""

from dataclasses import replace

from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.scheduler.round_robin import RoundRobin
from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.units import PAGE, SmallUnit, chunks, names

PREFILL, DECODE = JobKind.PREFILL, JobKind.DECODE
SHARE = LLMShare(rate=1.0, max_context=8 * PAGE)


def test_prefills_take_turns() -> None:
    unit = SmallUnit("round_robin", 100, dict.fromkeys("ab", SHARE), max_prefill_sequences=1)
    for llm in "aaabb":
        unit.add(llm, prompt=5)
    assert [step[0] for step in unit.run(5)] == ["prefill a", "prefill b", "prefill a", "prefill b", "prefill a"]


def test_decodes_take_turns_when_compute_is_short() -> None:
    unit = SmallUnit("round_robin", 100, dict.fromkeys("ab", replace(SHARE, decode_compute=0.6)))
    unit.add("a", prompt=5)
    unit.add("b", prompt=5)
    unit.run(2)
    assert unit.run(4) == [["decode b"], ["decode a"], ["decode b"], ["decode a"]]


def test_quotas_never_change() -> None:
    unit = SmallUnit("round_robin", 100, {"a": replace(SHARE, rate=3.0), "b": SHARE})
    for _ in range(30):
        unit.add("b", prompt=6 * PAGE)
    unit.run(60)
    assert (unit.pool.quota("a"), unit.pool.quota("b")) == (75, 25)


def test_without_quotas_everyone_has_the_whole_pool() -> None:
    pool = SmallUnit("round_robin", 100, dict.fromkeys("ab", SHARE)).pool
    assert RoundRobin(quotas=False).initial_quotas(pool, dict.fromkeys("ab", SHARE)) == {"a": 100, "b": 100}


def test_no_decode_starts_while_a_prefill_waits_for_compute() -> None:
    unit = SmallUnit("round_robin", 100, dict.fromkeys("ab", replace(SHARE, prefill_compute=1.0, decode_compute=0.3)))
    unit.add("a", prompt=5)
    unit.step()
    (decode,) = unit.start()
    unit.add("b", prompt=5)
    assert unit.start() == []
    unit.end(decode)
    assert names(unit.start()) == ["prefill b"]


def test_decodes_take_the_blocks_that_a_prefill_waits_for() -> None:
    unit = SmallUnit("round_robin", 8, dict.fromkeys("ab", SHARE))
    full, roomy = unit.add("a", prompt=2 * PAGE), unit.add("a", prompt=2 * PAGE - 8)
    unit.step()
    unit.add("b", prompt=5 * PAGE)
    assert chunks(unit.step(), DECODE) == [(full.id, 2 * PAGE, 1), (roomy.id, 2 * PAGE - 8, 1)]
    assert unit.pool.free_blocks == 3

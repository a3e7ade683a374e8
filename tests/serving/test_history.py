"""The last minute of a unit, as its views draw it."""

from dataclasses import replace

from muxjax.serving.history import SAMPLES, History
from muxjax.serving.statistics import Percentiles
from muxjax.serving.unit import LLMStatus, UnitStatus

QUIET = LLMStatus("a", "ready", 0, 0, 0, 100, 0, 0, 0)


def unit(*llms: LLMStatus) -> UnitStatus:
    return UnitStatus(llms, blocks_total=100, blocks_free=100, steps=0, fairness_gap=0.0)


def test_each_sample_adds_one_figure_to_every_series() -> None:
    history = History()
    history.add(unit(QUIET), 10.0)
    news = replace(QUIET, running=2, waiting=3, ttft=Percentiles(0.1, 0.2, 0.3), slo_attainment=0.5)
    history.add(unit(news), 11.0)
    llm = history.llms["a"]
    assert (list(llm.running), list(llm.waiting)) == ([0, 2], [0, 3])
    assert (list(llm.ttft_p50), list(llm.ttft_p99)) == ([None, 0.1], [None, 0.3])
    assert list(llm.tpot_p50) == list(llm.tpot_p99) == [None, None]
    assert list(llm.slo_attainment) == [None, 0.5]


def test_tokens_per_second_are_those_since_the_sample_before() -> None:
    history = History()
    for now, generated in ((10.0, 1000), (11.0, 1030), (13.0, 1040), (14.0, 5), (15.0, 6)):
        history.add(unit(replace(QUIET, generated_tokens=generated)), now)
    # The count went back: another server answers, and what it made before is not known.
    assert list(history.llms["a"].tokens_per_second) == [0.0, 30.0, 5.0, 0.0, 1.0]


def test_it_is_as_long_as_a_minute_and_knows_only_the_llms_that_are_there() -> None:
    history = History()
    for second in range(SAMPLES + 5):
        history.add(unit(replace(QUIET, running=second)), float(second))
    assert list(history.llms["a"].running) == list(range(5, SAMPLES + 5))
    history.add(unit(replace(QUIET, name="b")), 100.0)
    assert history.llms.keys() == {"b"}
    history.add(unit(QUIET), 101.0)
    assert list(history.llms["a"].running) == [0]

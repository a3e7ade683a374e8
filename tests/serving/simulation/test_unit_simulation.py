"""A unit in virtual time: leaps change nothing, and everything that is asked for ends."""

import pytest

from muxjax.placement.cost.interpolated import InterpolatedTable
from muxjax.placement.cost.table import CostTable, Latency
from muxjax.placement.known_models import find_model
from muxjax.placement.workload import Lengths, Request, make_requests
from muxjax.serving.simulation.plant import ServedModel
from muxjax.serving.simulation.systems import SYSTEMS, UnitLLM, make_unit

PREFILL, DECODE = 0.05, 0.02


def table() -> CostTable:
    """Decode steps that grow with batch and context, prefills with their tokens; half the compute takes longer."""
    batches = {
        batch: {
            length: Latency(PREFILL + batch * length * 1e-4, DECODE + batch * 1e-4 + length * 1e-5)
            for length in (32, 512)
        }
        for batch in (1, 64, 256)
    }
    return CostTable("test", {"llama-7b": {1: {50: batches, 100: batches}}})


def unit(system: str, names: str, memory_gb: float = 80.0, *, leaps: bool = True):
    llms = {name: UnitLLM(ServedModel(find_model("llama-7b"), 1, 50), 1.0) for name in names}
    return make_unit(SYSTEMS[system], llms, memory_gb, InterpolatedTable(table()), leaps=leaps)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("names", "memory_gb"), [("a", 80.0), ("a", 21.5), ("ab", 80.0), ("ab", 43.0)])
def test_leaping_over_steps_in_which_nothing_is_decided_gives_the_same_outcomes(system, names, memory_gb):
    rates = dict.fromkeys(names, 4.0)
    requests = make_requests(rates, dict.fromkeys(names, Lengths(100, 150, longest=400)), seed=3, duration=15)
    stepped, leapt = (unit(system, names, memory_gb, leaps=leaps) for leaps in (False, True))
    for slow, fast in zip(stepped.run(requests), leapt.run(requests), strict=True):
        assert fast.first_token == pytest.approx(slow.first_token, abs=1e-6)
        assert fast.finished == pytest.approx(slow.finished, abs=1e-6)
    assert leapt.events <= stepped.events


def test_leaps_save_most_events_of_a_quiet_unit():
    requests = [Request(0.0, "a", 100, 1000)]
    stepped, leapt = unit("muxserve", "a", leaps=False), unit("muxserve", "a")
    assert stepped.run(requests)[0].finished == pytest.approx(leapt.run(requests)[0].finished)
    assert stepped.events > 1000
    assert leapt.events < 10


def test_one_request_takes_its_prefill_and_its_decode_steps():
    outcome = unit("temporal", "a").run([Request(2.0, "a", 32, 3)])[0]
    assert outcome.first_token == pytest.approx(2.0 + PREFILL + 32e-4)
    # Two steps more, with the host's part of each.
    assert outcome.finished - outcome.first_token == pytest.approx(2 * (DECODE + 1e-4 + 32.5e-5 + 0.4e-4), rel=1e-3)


def test_a_decode_runs_beside_a_prefill_only_where_jobs_overlap():
    requests = [Request(0.0, "a", 32, 200), Request(0.5, "b", 512, 2)]
    beside, alone = (unit(system, "ab").run(requests)[1].first_token for system in ("muxserve", "temporal"))
    assert beside == pytest.approx(0.5 + PREFILL + 512e-4, abs=1e-6)
    assert alone > beside


def test_what_has_not_ended_when_the_time_is_up_has_no_end():
    outcomes = unit("muxserve", "a").run([Request(0.0, "a", 100, 10), Request(0.0, "a", 100, 400)], until=2.0)
    assert outcomes[0].finished < 2.0 < outcomes[1].finished == float("inf")


def test_a_request_that_would_never_fit_is_refused_and_the_others_go_on():
    outcomes = unit("muxserve", "a", memory_gb=20.9).run([Request(0.0, "a", 2000, 2000), Request(0.1, "a", 50, 20)])
    assert outcomes[0].first_token == outcomes[0].finished == float("inf")
    assert outcomes[1].finished < 10


def test_weights_that_leave_no_room_are_refused():
    with pytest.raises(ValueError, match="no room for KV"):
        unit("muxserve", "ab", memory_gb=40.0)

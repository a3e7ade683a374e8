"""A unit in virtual time: leaps change nothing, and everything that is asked for ends."""

import pytest

from muxjax.placement.cost.interpolated import InterpolatedTable
from muxjax.placement.cost.table import CostTable, Latency
from muxjax.placement.known_models import find_model
from muxjax.placement.workload import Lengths, Request, make_requests
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.simulation.latencies import Latencies, ServedModel
from muxjax.serving.simulation.load import Load
from muxjax.serving.simulation.process_plant import GPU_HOST, JOB_HOST, SEQUENCE_HOST, ProcessPlant
from muxjax.serving.simulation.step_plant import StepPlant
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
    return CostTable("test", {"llama-7b": {gpus: {50: batches, 100: batches} for gpus in (1, 4)}})


def unit(system: str, names: str, kv_gb: float = 58.0, *, share: int = 50, leaps: bool = True):
    llms = {name: UnitLLM(ServedModel(find_model("llama-7b"), 1, share), 1.0) for name in names}
    return make_unit(SYSTEMS[system], llms, kv_gb, InterpolatedTable(table()), leaps=leaps)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("names", "kv_gb"), [("a", 58.0), ("a", 1.1), ("ab", 38.0), ("ab", 3.1)])
def test_leaping_over_steps_in_which_nothing_is_decided_gives_the_same_outcomes(system, names, kv_gb):
    rates = dict.fromkeys(names, 4.0)
    requests = make_requests(rates, dict.fromkeys(names, Lengths(100, 150, longest=400)), seed=3, duration=15)
    stepped, leapt = (unit(system, names, kv_gb, leaps=leaps) for leaps in (False, True))
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
    assert outcome.first_token == pytest.approx(2.0 + JOB_HOST + PREFILL + 32e-4)
    step = DECODE + 1e-4 + 32.5e-5 + JOB_HOST + SEQUENCE_HOST * 1e-4
    assert outcome.finished - outcome.first_token == pytest.approx(2 * step, rel=1e-3)


def test_processes_of_more_gpus_wait_longer_for_their_inputs():
    models = {gpus: {"a": ServedModel(find_model("llama-7b"), gpus)} for gpus in (1, 4)}
    one, four = (ProcessPlant(Latencies(InterpolatedTable(table()), model), model) for model in models.values())
    load = Load("a", JobKind.PREFILL, 1, 32)
    assert four.prefill_seconds(load, []) - one.prefill_seconds(load, []) == pytest.approx(3 * GPU_HOST)


def test_a_prompt_is_admitted_as_soon_as_it_fits_and_may_be_preempted_for_those_that_run():
    requests = [Request(0.0, "a", 250, 200), Request(0.1, "a", 250, 200)]
    outcome = unit("spatial", "a", kv_gb=0.26).run(requests)[1]  # 16 pages: both prompts fill them
    assert outcome.first_token < 1
    assert outcome.finished > 2 * 200 * DECODE, "it began anew when the first one had ended"


def test_a_decode_runs_beside_a_prefill_only_where_compute_is_left():
    requests = [Request(0.0, "a", 32, 200), Request(0.5, "b", 512, 2)]
    prefill = JOB_HOST + PREFILL + 512e-4
    first_tokens = [unit("muxserve", "ab", share=share).run(requests)[1].first_token for share in (20, 50)]
    assert first_tokens[0] == pytest.approx(0.5 + prefill, abs=1e-6)
    assert first_tokens[1] > 0.5 + prefill + 1e-3, "it waits for a decode to end"


def test_a_preempted_request_of_muxserve_generates_its_tokens_anew():
    requests = [Request(0.0, "a", 400, 400), Request(0.1, "a", 400, 400)]
    ends = {system: unit(system, "a", kv_gb=0.6).run(requests)[1].finished for system in ("spatial", "muxjax")}
    alone = {system: unit(system, "a").run(requests)[1].finished for system in ends}
    assert ends["spatial"] - alone["spatial"] > 1.5 * (ends["muxjax"] - alone["muxjax"]) > 0


def test_a_packed_step_takes_between_its_longest_job_and_all_of_them_one_after_another():
    served = {name: ServedModel(find_model("llama-7b"), 1) for name in "ab"}
    costs = InterpolatedTable(table())
    latencies = Latencies(costs, served)
    packed, serial = (StepPlant(latencies, costs, served, packed=packed) for packed in (True, False))
    prefill, decode = Load("a", JobKind.PREFILL, 1, 512), Load("b", JobKind.DECODE, 64, 200)
    other = Load("a", JobKind.DECODE, 64, 200)
    alone = {load: float(serial.seconds([load], 1)[0]) for load in (prefill, decode, other)}
    assert all(packed.seconds([load], 1)[0] == pytest.approx(seconds) for load, seconds in alone.items())
    both = float(packed.seconds([prefill, decode], 1)[0])
    assert both == pytest.approx(alone[prefill] + 0.5 * alone[decode]), "half of the compute is enough for a decode"
    assert serial.seconds([prefill, decode], 1)[0] == pytest.approx(alone[prefill] + alone[decode])
    assert packed.seconds([other, decode], 1)[0] == pytest.approx(2 * alone[decode]), "memory is read by one at a time"


def test_the_prefill_chunk_bounds_how_long_decodes_wait():
    def waits(system: str) -> float:
        """How much longer the last token of a takes, when a long prompt arrives during the step before it."""
        requests = [Request(0.0, "a", 32, 3), Request(0.06, "b", 2000, 2)]
        return unit(system, "ab").run(requests)[0].finished - unit(system, "ab").run(requests[:1])[0].finished

    assert 0 < waits("muxjax") < waits("muxjax_interleaved") <= PREFILL + SYSTEMS["muxjax"].max_prefill_tokens * 1e-4
    assert waits("temporal") > PREFILL + 2000e-4


def test_what_has_not_ended_when_the_time_is_up_has_no_end():
    outcomes = unit("muxserve", "a").run([Request(0.0, "a", 100, 10), Request(0.0, "a", 100, 400)], until=2.0)
    assert outcomes[0].finished < 2.0 < outcomes[1].finished == float("inf")


def test_a_request_that_would_never_fit_is_refused_and_the_others_go_on():
    outcomes = unit("muxserve", "a", kv_gb=0.5).run([Request(0.0, "a", 2000, 2000), Request(0.1, "a", 50, 20)])
    assert outcomes[0].first_token == outcomes[0].finished == float("inf")
    assert outcomes[1].finished < 10


def test_weights_that_leave_no_room_are_refused():
    with pytest.raises(ValueError, match="no room for KV"):
        unit("muxserve", "ab", kv_gb=0.02)

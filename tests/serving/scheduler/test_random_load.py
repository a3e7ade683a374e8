"""Long random runs: no request starves, is lost or ends twice, and no block leaks."""

import pytest

from muxjax.serving.scheduler.adbs import ADBS
from muxjax.serving.scheduler.fcfs import FCFS
from muxjax.serving.scheduler.policies import POLICY_NAMES
from muxjax.serving.scheduler.policy import Policy
from muxjax.serving.scheduler.round_robin import RoundRobin
from muxjax.serving.scheduler.sequence import SequenceState
from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.drivers import RandomLoad, run_as_engine, run_as_simulator
from tests.serving.scheduler.units import PAGE, SmallUnit

CALLS = 2000


@pytest.mark.parametrize("policy", POLICY_NAMES)
@pytest.mark.parametrize("num_blocks", [48, 120, 1000])
def test_on_a_device_that_is_read_one_step_late(policy: str, num_blocks: int) -> None:
    load = RandomLoad(seed=num_blocks, policy=policy, num_blocks=num_blocks)
    run_as_engine(load, CALLS)
    load.check_end()
    assert len(load.added) > 60
    assert load.longest < CALLS / 2
    assert num_blocks == 1000 or sum(sequence.preemptions for sequence in load.added) > 0


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_on_a_device_that_is_given_several_decode_steps_at_once(policy: str) -> None:
    load = RandomLoad(seed=5, policy=policy, num_blocks=120)
    run_as_engine(load, CALLS // 2, max_decode_steps=6)
    load.check_end()
    assert load.longest_burst == 6


@pytest.mark.parametrize("policy", POLICY_NAMES)
@pytest.mark.parametrize("num_blocks", [48, 120, 1000])
def test_in_virtual_time_with_jobs_that_overlap(policy: str, num_blocks: int) -> None:
    load = RandomLoad(seed=num_blocks, policy=policy, num_blocks=num_blocks, prefill=0.8, decode=0.5)
    run_as_simulator(load, CALLS)
    load.check_end()
    assert len(load.added) > 60
    assert load.longest < CALLS
    assert num_blocks == 1000 or sum(sequence.preemptions for sequence in load.added) > 0


@pytest.mark.parametrize("policy", [ADBS(passing=True), RoundRobin(passing=True), FCFS(strict=True)])
def test_in_virtual_time_as_muxserves_code_orders_jobs(policy: Policy) -> None:
    load = RandomLoad(seed=1, policy=policy, num_blocks=120, prefill=0.8, decode=0.5)
    run_as_simulator(load, CALLS)
    load.check_end()
    assert len(load.added) > 60


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_the_one_request_of_a_rare_llm_ends_in_a_flood_of_others(policy: str) -> None:
    unit = SmallUnit(policy, 24, dict.fromkeys("abc", LLMShare(1.0, 16 * PAGE)) | {"rare": LLMShare(0.001, 20 * PAGE)})
    rare = None
    for number in range(600):
        for llm in "abc":
            if len(unit.scheduler.queues[llm].waiting) < 5:
                unit.add(llm, prompt=3 * PAGE + number % PAGE, output=2 * PAGE)
        if number == 50:
            rare = unit.add("rare", prompt=15 * PAGE, output=PAGE)
        unit.step()
    assert rare is not None
    assert rare.state is SequenceState.FINISHED
    assert rare.num_tokens == 16 * PAGE

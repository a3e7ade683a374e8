"""The paper's comparison of scheduling policies."""

from pathlib import Path

import pytest

from muxjax.placement.cost.interpolated import InterpolatedTable
from muxjax.placement.cost.table import read_table
from muxjax.serving.simulation.ablation import simulate_policies

TABLE = Path(__file__).parents[4] / "shared/data/a100_llama_cost.json"


@pytest.mark.skipif(not TABLE.exists(), reason="the measured A100 table is not here")
def test_the_policies_are_ranked_as_measured():
    throughputs = simulate_policies(InterpolatedTable(read_table(TABLE)), seed=0)
    fcfs, round_robin, adbs = (throughputs[policy] for policy in ("FCFS", "Round-Robin", "ADBS"))
    assert fcfs < round_robin < adbs
    assert adbs > 1.2 * round_robin, "quotas keep one LLM from the other's memory"

"""MuxServe's inputs and results, where the shared data is there."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from muxjax.placement.cost.rounded import RoundedTable
from muxjax.placement.cost.table import CostTable, read_table
from muxjax.placement.known_models import KNOWN_MODELS
from muxjax.placement.problem import LLM, Cluster, Problem

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
TABLE = DATA / "a100_llama_cost.json"
needs_data = pytest.mark.skipif(not TABLE.exists(), reason=f"needs MuxServe's data in {DATA}")
CASES = sorted(path.stem for path in (DATA / "placement").glob("*.json"))


@cache
def a100_table() -> CostTable:
    return read_table(TABLE)


@cache
def a100() -> RoundedTable:
    return RoundedTable(a100_table())


@cache
def case(name: str) -> dict[str, Any]:
    return json.loads((DATA / "placement" / f"{name}.json").read_text())


def problem(name: str) -> Problem:
    given = case(name)["input"]
    cluster = Cluster(*(given["cluster"][key] for key in ("nnodes", "ngpus_per_node", "memory_per_gpu_gb")))
    lengths = given["avg_prompt_len"], given["avg_output_len"]
    llms = (LLM(llm["name"], KNOWN_MODELS[llm["model"]], llm["rate"], *lengths) for llm in given["models"])
    return Problem(cluster, tuple(llms))

"""Hundreds of LLMs on hundreds of GPUs, through the command."""

import json
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import yaml

from muxjax.place.__main__ import main
from muxjax.placement.known_models import KNOWN_MODELS
from muxjax.placement.placement_file import read_placement
from muxjax.placement.rules import SHARE_LIMIT, weight_budget_gb
from muxjax.placement.workload import power_law_rates

MODELS = ("llama-7b", "llama-7b", "llama-13b", "llama-30b", "llama-7b", "llama-13b", "llama-7b", "llama-65b")


@pytest.mark.parametrize(
    ("num_llms", "num_gpus"), [(200, 256), pytest.param(1_000, 1_024, marks=[pytest.mark.slow, pytest.mark.timeout(0)])]
)
def test_every_llm_has_its_gpus_and_the_bound_is_near(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], num_llms: int, num_gpus: int
) -> None:
    rates = power_law_rates(num_llms, 1.3, highest=40.0)
    models = [
        {"name": f"llm-{number}", "model": MODELS[number % len(MODELS)], "rate": float(rate)}
        for number, rate in enumerate(rates)
    ]
    file, output = tmp_path / "cluster.yaml", tmp_path / "placement.yaml"
    cluster = {"nnodes": num_gpus // 8, "ngpus_per_node": 8, "gpu": "a100-80gb"}
    file.write_text(yaml.safe_dump({"cluster": cluster, "models": models}))
    assert main([str(file), "--json", "-o", str(output)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["gap"] < 0.02

    placement = read_placement(output)
    assert Counter(llm.name for unit in placement.units for llm in unit.llms) == Counter(m["name"] for m in models)
    devices = Counter((unit.node, device) for unit in placement.units for device in unit.devices)
    assert devices == Counter(product(range(num_gpus // 8), range(8))), "every GPU is in one unit, once"
    for unit in placement.units:
        weights = sum(KNOWN_MODELS[llm.model].weight_gb for llm in unit.llms)
        assert weights <= weight_budget_gb(unit.gpus * unit.memory_per_gpu_gb)
        assert sum(llm.decode_share for llm in unit.llms) <= SHARE_LIMIT
        assert unit.llms, "no GPU is idle"

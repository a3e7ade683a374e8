"""Cost tables: reading, rounding as MuxServe does, interpolation, and holes."""

import json
from pathlib import Path

import numpy as np
import pytest

from muxjax.placement.cost.interpolated import InterpolatedTable
from muxjax.placement.cost.rounded import RoundedTable
from muxjax.placement.cost.table import CostTable, read_table
from muxjax.placement.errors import PlacementError
from muxjax.placement.known_models import KNOWN_MODELS

LLAMA = KNOWN_MODELS["llama-7b"]


def entry(prefill: float, decoding: float) -> dict[str, float]:
    return {"prefill": prefill, "decoding": decoding}


# Lengths stand as 64, 32, 128: averages go by the order of the file.
BATCHES = {
    "1": {"64": entry(20, 12), "32": entry(10, 8), "128": entry(40, 16)},
    "4": {"64": entry(80, 14), "32": entry(40, 10), "128": entry(-1, 18)},
    "8": {"64": entry(-1, 16), "32": entry(-1, 12), "128": entry(-1, -1)},
}


def table(folder: Path, data: object) -> CostTable:
    path = folder / "cost.json"
    path.write_text(json.dumps(data))
    return read_table(path)


@pytest.fixture
def small(tmp_path: Path) -> CostTable:
    return table(tmp_path, {"llama-7b": {"2": {"50": BATCHES}, "1": {"50": BATCHES, "30": BATCHES}}})


def test_what_was_profiled_is_listed_in_order(small: CostTable) -> None:
    for cost in (RoundedTable(small), InterpolatedTable(small)):
        assert cost.gpu_counts(LLAMA) == [1, 2]
        assert cost.shares(LLAMA, 1) == [30, 50]
        assert cost.max_batch(LLAMA, 1, 50) == 8
        assert cost.gpu_counts(KNOWN_MODELS["llama-13b"]) == []


def test_prefill_rounds_batch_and_length_up(small: CostTable) -> None:
    cost = RoundedTable(small)
    assert cost.prefill_seconds(LLAMA, 1, 50, [1, 1, 1.5, 4], [33, 100, 33, 33]) == pytest.approx(
        [0.02, 0.04, 0.08, 0.08]
    )


def test_prefill_takes_the_length_above_and_of_a_hole_the_one_before_it(small: CostTable) -> None:
    cost = RoundedTable(small)
    assert cost.prefill_seconds(LLAMA, 1, 50, 1, 64) == pytest.approx(0.04)  # 64 is not above 64
    assert cost.prefill_seconds(LLAMA, 1, 50, 4, 100) == pytest.approx(0.04)  # 128 is a hole, 32 stands before it
    assert cost.prefill_seconds(LLAMA, 1, 50, 8, 33) == pytest.approx(0.08)  # batch 8 is all holes


def test_the_mean_decode_step_is_a_mean_of_running_means(small: CostTable) -> None:
    cost = RoundedTable(small)
    means = [12, (12 + 8) / 2, (12 + 8 + 16) / 3]
    assert cost.mean_decode_seconds(LLAMA, 1, 50, 1, 100, 64) == pytest.approx(np.mean(means) / 1000)
    assert cost.mean_decode_seconds(LLAMA, 1, 50, 1, 100, 33) == pytest.approx(0.012)
    assert cost.mean_decode_seconds(LLAMA, 1, 50, 8, 100, 500) == pytest.approx((16 + 14) / 2 / 1000)


def test_one_decode_step_rounds_the_context_up(small: CostTable) -> None:
    cost = RoundedTable(small)
    assert cost.decode_seconds(LLAMA, 1, 50, [1, 1, 3], [1, 65, 64]) == pytest.approx([0.008, 0.016, 0.014])
    assert cost.decode_seconds(LLAMA, 1, 50, 8, 1000) == pytest.approx(0.016)


def test_interpolation_is_exact_on_the_grid_and_linear_between(small: CostTable) -> None:
    cost = InterpolatedTable(small)
    assert cost.prefill_seconds(LLAMA, 1, 50, [1, 4, 2.5], [32, 64, 48]) == pytest.approx([0.01, 0.08, 0.0375])
    assert cost.decode_seconds(LLAMA, 1, 50, [1, 4, 2.5], [32, 64, 48]) == pytest.approx([0.008, 0.014, 0.011])


def test_interpolation_fills_holes_in_proportion_and_goes_on_beyond_the_table(small: CostTable) -> None:
    cost = InterpolatedTable(small)
    assert cost.prefill_seconds(LLAMA, 1, 50, [4, 8], [128, 64]) == pytest.approx([0.16, 0.16])
    assert cost.prefill_seconds(LLAMA, 1, 50, 16, 256) == pytest.approx(0.16 * 2 * 2 * 2)
    slope = (16 - 8) / (128 - 32)
    assert cost.decode_seconds(LLAMA, 1, 50, 1, 256) == pytest.approx((16 + 128 * slope) / 1000)
    assert cost.mean_decode_seconds(LLAMA, 1, 50, 1, 32, 64) == cost.decode_seconds(LLAMA, 1, 50, 1, 64)


def test_all_wrong_entries_are_named(tmp_path: Path) -> None:
    data = {"a": {"one": {}, "2": {"50": {"1": {"32": entry(0, 1), "64": 7, "128": {"prefill": 1}}}}}, "b": 3}
    with pytest.raises(PlacementError) as refused:
        table(tmp_path, data)
    assert refused.value.complaints == tuple(
        f"{tmp_path}/cost.json: {complaint}"
        for complaint in (
            "a.one: the key must be a positive whole number",
            "a.2.50.1.32.prefill: must be positive milliseconds, or -1 for not run, not 0",
            'a.2.50.1.64: must be {"prefill": ms, "decoding": ms}',
            "a.2.50.1.128.decoding: must be positive milliseconds, or -1 for not run, not None",
            "b: must be an object whose keys are whole numbers, and not empty",
        )
    )


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    for data in ({}, [1], 3):
        with pytest.raises(PlacementError, match="must be an object of models"):
            table(tmp_path, data)
    with pytest.raises(PlacementError, match="No such file"):
        read_table(tmp_path / "none.json")


def test_a_table_that_cannot_cost_the_models_says_why(tmp_path: Path) -> None:
    holes = {"1": {"32": entry(-1, -1)}}
    data = {"llama-7b": {"1": {"50": holes}, "2": {"30": {"1": {"32": entry(1, -1)}}}, "8": {"50": holes}}}
    with pytest.raises(PlacementError) as refused:
        table(tmp_path, data).check(["llama-7b", "llama-7b", "llama-2-70b"], most_gpus=4)
    name = f"{tmp_path}/cost.json"
    assert refused.value.complaints == (
        f"{name}: llama-7b.1: has no share 100, with which prefills run",
        f"{name}: llama-7b.1.50: no prefill was run (all are -1): profile it again, or delete this entry",
        f"{name}: llama-7b.1.50: no decode step was run (all are -1): profile it again, or delete this entry",
        f"{name}: llama-7b.2: has no share 100, with which prefills run",
        f"{name}: llama-7b.2.30: no decode step was run (all are -1): profile it again, or delete this entry",
        f"{name}: llama-2-70b: is not in the table; it has llama-7b",
    )

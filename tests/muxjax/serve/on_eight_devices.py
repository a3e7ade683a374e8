"""Commands and the offline class on a machine with several devices."""

import json
import re
from pathlib import Path

import jax
import pytest

from muxjax import LLM, SamplingParams
from muxjax.config.placed import device_units, load_placement
from muxjax.config.unit import unit_spec
from muxjax.placement.placement import PlacedUnit
from muxjax.serve.__main__ import main
from tests.models.checkpoints import read_golden, write_golden
from tests.muxjax.serve.test_placement import llm, write
from tests.muxjax.serve.test_serve import SHAPE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ids.json").write_text(json.dumps(SHAPE))
    return tmp_path


def test_check_shows_what_each_device_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "muxjax.yaml"
    path.write_text("llms: {ids: 'random:ids.json'}\ntensor_parallel: 2\npool: {blocks: 512}\n")
    assert main([str(path), "--check"]) == 0
    out = capsys.readouterr().out
    weights = 400 * 32 // 2 + 32 + 2 * (2 * 32 + 32 * 3 * 16 + 16 * 32 + 3 * 32 * 24)  # one query head and its KV head
    assert re.search(rf"^ids .* {weights * 4 / 1024:.1f} KiB ", out, re.MULTILINE)
    assert "of each device's " in out
    assert "devices    2 x cpu (cpu); every model is spread over all" in out
    assert "ids has fewer KV heads than there are devices: each of its 1 is on 2 of them" in out


def test_heads_that_the_devices_cannot_share_are_told_before_anything_loads(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "muxjax.yaml"
    path.write_text("llms: {ids: 'random:ids.json'}\ntensor_parallel: 4\n")
    assert main([str(path)]) == 2
    assert "2 query heads on 1 KV heads cannot be spread over 4 devices" in capsys.readouterr().err


def test_the_units_of_a_placement_get_the_devices_that_it_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    units = (
        PlacedUnit(0, (4, 5), 1.0, (llm("a", tensor_parallel=2), llm("b", tensor_parallel=2))),
        PlacedUnit(0, (2,), 1.0, (llm("c"),)),
    )
    path = Path(write(folder, *units))
    loaded, placement = load_placement(path)
    two, one = device_units(unit_spec(loaded.config), placement)
    assert (two.devices, one.devices) == (tuple(jax.devices()[4:6]), (jax.devices()[2],))
    assert (two.spec.tensor_parallel, one.spec.tensor_parallel) == (2, 1)
    assert main([str(path), "--check"]) == 0
    assert "unit 0, on cpu:4, cpu:5:" in capsys.readouterr().out


def test_the_offline_class_generates_what_transformers_does_on_one_device(tmp_path: Path) -> None:
    golden = read_golden("gpt2")
    source = {"source": str(write_golden(tmp_path / "gpt2", golden)), "max_sequences": 1}
    sections = {"pool": {"blocks": 512}, "scheduler": {"max_prefill_tokens": 16}, "compile": {"cache": False}}
    with LLM({"gpt2": source}, tensor_parallel=2, **sections) as llms:
        sampling = SamplingParams(temperature=0, max_tokens=len(golden["generated"]))
        [completion] = llms.generate("gpt2", prompt_token_ids=[golden["prompt"]], sampling=sampling)
    assert list(completion.token_ids) == golden["generated"]

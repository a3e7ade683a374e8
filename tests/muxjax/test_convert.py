"""`python -m muxjax.convert`: there and back, bit for bit, and nothing half written."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from muxjax.convert import main
from muxjax.models import convert
from muxjax.models.huggingface import read_tensors, write_tensors
from muxjax.models.load import load_model
from muxjax.models.registry import find_architecture
from muxjax.models.weights import flatten_names
from tests.models.checkpoints import TINY, seeded_tensors, write_checkpoint
from tests.models.tokenizers_for_tests import byte_level, load

GOLDEN = Path(__file__).parents[1] / "oracle/golden"
FAMILIES = (
    "gpt2",
    "phi3_tied_short_of_its_original_context",
    "qwen3_moe_with_dense_layers",
    "gemma2_without_caps_untied",
    "phi",
    "gpt_neox",
    "opt",
    "mistral3_text_of_a_model_that_sees",
)
CASES = {"untied": TINY, "tied": {**TINY, "tie_word_embeddings": True}}
CASES |= {name: json.loads((GOLDEN / f"{name}.json").read_text())["config"] for name in FAMILIES}


@pytest.mark.parametrize(
    ("case", "dtype"),
    [*((case, np.float32) for case in CASES), ("tied", np.float16), ("untied", ml_dtypes.bfloat16)],
)
def test_there_and_back_gives_the_same_bytes(case: str, dtype: type, tmp_path: Path) -> None:
    tensors = {name: tensor.astype(dtype) for name, tensor in seeded_tensors(CASES[case]).items()}
    source = write_checkpoint(tmp_path / "hf", CASES[case], tensors, shards=2)
    load(source, byte_level())
    (source / "generation_config.json").write_text('{"eos_token_id": [5, 7]}')
    assert main([str(source), str(tmp_path / "orbax")]) == 0
    assert load_model(tmp_path / "orbax", dtype=dtype).eos_token_ids == (5, 7, 1)  # the last is its tokenizer's
    assert main([str(tmp_path / "orbax"), str(tmp_path / "back"), "--max-shard-size", "8KB"]) == 0
    assert len(list((tmp_path / "back").glob("model-*-of-*.safetensors"))) > 1
    back = read_tensors(tmp_path / "back")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (back[name].dtype, back[name].read().tobytes()) == (tensor.dtype, tensor.tobytes())
    for file in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "back" / file).read_bytes() == (source / file).read_bytes()


def test_a_bfloat16_checkpoint_read_as_float32_and_written_in_bfloat16_is_the_same(tmp_path: Path) -> None:
    tensors = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in seeded_tensors(TINY).items()}
    wide = load_model(write_checkpoint(tmp_path, TINY, tensors), dtype=np.float32)
    leaves = flatten_names(nnx.to_pure_dict(nnx.state(wide.decoder)))
    narrow = {name: np.asarray(leaf).astype(ml_dtypes.bfloat16) for name, leaf in leaves.items()}
    (tmp_path / "back").mkdir()
    write_tensors(tmp_path / "back", find_architecture(wide.architecture).tensor_slots(wide.config), narrow)
    back = read_tensors(tmp_path / "back")
    assert {name: tensor.read().tobytes() for name, tensor in back.items()} == {
        name: tensor.tobytes() for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("way", ["there", "back"])
def test_a_full_disk_or_ctrl_c_leaves_nothing_behind(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, error: BaseException
) -> None:
    assert main([str(source), str(tmp_path / "orbax")]) == 0

    def fail(*arguments: object, **options: object) -> None:
        raise error

    if way == "there":
        monkeypatch.setattr(convert, "save_weights", fail)
    else:
        monkeypatch.setattr(np, "ascontiguousarray", fail)  # of the first tensor that is written
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    replaced = "hf" if way == "back" else "orbax"
    code = main([str(tmp_path / ("orbax" if way == "back" else "hf")), str(tmp_path / replaced), "--overwrite"])
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_demo_model_becomes_a_hugging_face_folder_that_loads_the_same(tmp_path: Path) -> None:
    assert main(["demo:arithmetic", str(tmp_path / "hf")]) == 0
    assert (tmp_path / "hf" / "model.safetensors").is_file()
    ours, demo = (load_model(source, dtype=np.float32) for source in (tmp_path / "hf", "demo:arithmetic"))
    np.testing.assert_array_equal(ours.decoder.head[...], demo.decoder.head[...])
    assert ours.tokenizer is not None


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "hf", TINY, seeded_tensors(TINY))


def test_what_is_there_is_replaced_only_when_asked_to(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(source), str(tmp_path / "orbax")]) == 0
    assert main([str(source), str(tmp_path / "orbax")]) == 2
    assert "orbax is there already: name another place, or say --overwrite" in capsys.readouterr().err
    assert main([str(source), str(tmp_path / "orbax"), "--overwrite"]) == 0
    (tmp_path / "mine").mkdir()
    assert main([str(source), str(tmp_path / "mine"), "--overwrite"]) == 2
    assert "is no model's folder" in capsys.readouterr().err
    assert (tmp_path / "mine").is_dir()


def test_a_damaged_source_leaves_nothing_behind(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = source / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert main([str(source), str(tmp_path / "orbax")]) == 2
    assert "the file is truncated" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_types_that_could_not_be_told_apart_on_the_way_back_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = seeded_tensors(TINY)
    tensors["model.layers.0.mlp.up_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"].astype(np.float16)
    assert main([str(write_checkpoint(tmp_path / "hf", TINY, tensors)), str(tmp_path / "orbax")]) == 2
    assert "layers.mlp.gate_up are of several types" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["no/such/place", "demo:nonsense"])
def test_a_source_that_is_not_there_is_named(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([source, str(tmp_path / "orbax")]) == 2
    assert source in capsys.readouterr().err

"""Whatever is in a model's files, reading them ends soon, in a model or a ModelError; the long campaign is `slow`."""

import copy
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from muxjax.models.errors import CheckpointError, ConfigError, ModelError
from muxjax.models.generation_config import read_sampling_defaults
from muxjax.models.huggingface import read_eos_token_ids, read_tensors
from muxjax.models.load import load_model
from muxjax.models.safetensors import read_safetensors
from muxjax.models.source import find_model
from muxjax.models.tokenizer import Tokenizer
from tests.models.checkpoints import GOLDEN, TINY, read_golden, seeded_tensors, write_checkpoint
from tests.models.tokenizers_for_tests import byte_level, load

CASES = sorted(path.stem for path in GOLDEN.glob("*.json"))
ODD: tuple[Any, ...] = (
    *(None, True, "", "x" * 300, "\ud800", "\x1b[2J", [], {}, [[]], {"a": {}}),
    *(0, -1, 1, 3, 2**31 - 1, 2**31, 2**70, 0.5, 1e-300, 1e308, float("nan"), float("inf"), [None], [2**70], [0.5]),
    *({"rope_type": kind, "factor": 1e308} for kind in ("linear", "dynamic", "yarn", "longrope", ["yarn"], None)),
)
ODD_JSON = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FEW = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=2000, derandomize=False)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every part of a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another part at one place."""
    if not path:
        return new
    changed = node = copy.deepcopy(value)
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = new
    return changed


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    return replaced(value, draw(st.sampled_from(list(places(value)))), draw(ODD_JSON))


def is_read_or_refused(read: Callable[[], Any]) -> None:
    try:
        read()
    except ModelError as error:
        assert str(error).replace("\n", "").isprintable()  # noqa: PT017  (it goes to people's terminals)
        assert len(str(error)) < 20_000  # noqa: PT017


def read_config(folder: Path, config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))

    def read() -> None:
        found = find_model(folder)
        assert len(found.architecture.tensor_slots(found.config)) < 400_000
        read_eos_token_ids([found.config_path], found.config.vocab_size)

    is_read_or_refused(read)


def read_file(folder: Path, content: bytes) -> None:
    path = folder / "a.safetensors"
    path.write_bytes(content)
    is_read_or_refused(lambda: [tensor.read() for tensor in read_safetensors(path).values()])


WHOLE = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float16)})
HEADER = json.loads(WHOLE[8 : 8 + int.from_bytes(WHOLE[:8], "little")])


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    content = bytearray(WHOLE)
    for _ in range(draw(st.integers(1, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))]) if draw(st.booleans()) else bytes(content)


@st.composite
def odd_header(draw: st.DrawFn) -> bytes:
    header = json.dumps(draw(mutated(HEADER))).encode()
    return struct.pack("<Q", len(header)) + header + bytes(draw(st.integers(0, 40)))


@pytest.mark.parametrize("case", ["mixtral", "gpt2", "qwen3_moe_with_dense_layers", "gemma3_text_of_a_model_that_sees"])
def test_any_field_of_a_configuration(tmp_path: Path, case: str) -> None:
    FEW(given(mutated(read_golden(case)["config"]))(lambda config: read_config(tmp_path, config)))()


def test_any_bytes_of_a_safetensors_file(tmp_path: Path) -> None:
    FEW(given(damaged_bytes() | odd_header())(lambda content: read_file(tmp_path, content)))()


def test_any_index(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, TINY, seeded_tensors(TINY), shards=2)
    path = folder / "model.safetensors.index.json"

    def read(index: Any) -> None:
        path.write_text(json.dumps(index))
        is_read_or_refused(lambda: read_tensors(folder))

    FEW(given(mutated(json.loads(path.read_text())))(read))()


def change_tokenizer(folder: Path, run: settings) -> None:
    load(folder, byte_level())
    files = {name: json.loads((folder / name).read_text()) for name in ("tokenizer.json", "tokenizer_config.json")}
    whole = st.sampled_from(list(files.items()))

    def read(changed: tuple[str, Any]) -> None:
        for name, content in (*files.items(), changed):
            (folder / name).write_text(json.dumps(content))

        def use() -> None:
            tokenizer = Tokenizer.load(folder)
            if tokenizer is not None:
                tokenizer.decode(tokenizer.encode("hello <s> there"))
                if tokenizer.has_chat_template:
                    tokenizer.apply_chat_template([{"role": "user", "content": "hi"}])

        is_read_or_refused(use)

    run(given(whole.flatmap(lambda file: st.tuples(st.just(file[0]), mutated(file[1]))))(read))()


def test_any_field_of_a_tokenizer(tmp_path: Path) -> None:
    change_tokenizer(tmp_path, FEW)


GENERATION = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.9, "eos_token_id": [1, 2]}


def change_generation(folder: Path, run: settings) -> None:
    path = folder / "generation_config.json"

    def read(values: Any) -> None:
        path.write_text(json.dumps(values))
        is_read_or_refused(lambda: read_sampling_defaults(path))
        is_read_or_refused(lambda: read_eos_token_ids([path], 61))

    run(given(mutated(GENERATION))(read))()


def test_any_field_of_the_sampling_defaults(tmp_path: Path) -> None:
    change_generation(tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_field_of_every_configuration(tmp_path: Path, case: str) -> None:
    config = read_golden(case)["config"]
    for path in places(config):
        for new in ODD:
            read_config(tmp_path, replaced(config, path, new))


@pytest.mark.slow
def test_many_bytes_of_a_safetensors_file(tmp_path: Path) -> None:
    MANY(given(damaged_bytes() | odd_header())(lambda content: read_file(tmp_path, content)))()


@pytest.mark.slow
@pytest.mark.parametrize("change", [change_tokenizer, change_generation])
def test_many_fields_of_the_other_files(tmp_path: Path, change: Callable[[Path, settings], None]) -> None:
    change(tmp_path, MANY)


@pytest.mark.parametrize(
    "case", ["gemma3_with_two_ropes", "mixtral", "qwen3_moe_with_dense_layers", "gpt2", "olmo3_tied", "smollm3_tied"]
)
def test_absurd_numbers_of_layers_and_experts_are_refused_before_anything_is_counted(tmp_path: Path, case: str) -> None:
    config = read_golden(case)["config"]
    for name in config.keys() & {"num_hidden_layers", "n_layer", "num_local_experts", "num_experts"}:
        (tmp_path / "config.json").write_text(json.dumps({**config, name: 2**31 - 1}))
        with pytest.raises(ConfigError, match=rf"config\.json: .*({name}|experts)"):
            find_model(tmp_path)


def test_a_panic_of_the_tokenizers_library_ends_no_thread(tmp_path: Path) -> None:
    load(tmp_path, byte_level())
    path = tmp_path / "tokenizer.json"
    fields = json.loads(path.read_text())
    fields["model"]["continuing_subword_prefix"] = "a" * 1000
    path.write_text(json.dumps(fields))
    with pytest.raises(ModelError, match=r"tokenizer\.json: the tokenizer cannot be read"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "", "x" * 2000])
def test_names_that_no_terminal_should_show_are_refused(tmp_path: Path, name: str) -> None:
    header = json.dumps({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="is no name of a tensor") as caught:
        read_safetensors(path)
    assert str(caught.value).isprintable()


SMALL_FILES = (
    *("config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
)


@pytest.mark.parametrize("file", SMALL_FILES)
@pytest.mark.parametrize("kind", ["loop", "dangling", "pipe", "folder", "device"])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, file: str, kind: str) -> None:
    folder = write_checkpoint(tmp_path / "model", TINY, seeded_tensors(TINY))
    load(folder, byte_level())
    path = folder / file
    path.unlink(missing_ok=True)
    match kind:
        case "loop":
            path.symlink_to(path.name)
        case "dangling":
            path.symlink_to("blobs-that-are-gone")
        case "device":
            path.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    with pytest.raises(ModelError, match=str(path)):
        load_model(folder, dtype=np.float32)


def test_a_file_larger_than_any_of_its_kind_is_not_read(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, TINY, seeded_tensors(TINY))
    with (folder / "config.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match=r"config\.json: has 1099511627776 bytes"):
        find_model(folder)

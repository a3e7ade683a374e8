"""The configuration: what a file means, and that all of its mistakes are reported at once, with their lines."""

from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from muxjax.config import Config, ConfigurationError, load_config
from muxjax.config.reference import reference
from muxjax.config.unit import find_devices, first_devices, unit_spec
from muxjax.serving.plan import PlanError
from muxjax.serving.spec import SLO

ROOT = Path(__file__).parents[3]


def write(folder: Path, text: str) -> Path:
    path = folder / "muxjax.yaml"
    path.write_text(text)
    return path


def complaints(folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    with pytest.raises(ConfigurationError) as refused:
        load_config(path)
    lines = str(refused.value).splitlines()
    assert all(line.startswith(str(path)) for line in lines)
    return [line.removeprefix(str(path)).removeprefix(":") for line in lines]


@pytest.fixture
def shape(tmp_path: Path) -> str:
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "tiny.json").write_text("{}")
    return "random:shapes/tiny.json"


def test_without_a_file_the_demo_models_are_served() -> None:
    config = load_config(None).config
    assert {name: llm.source for name, llm in config.llms.items()} == {
        "code": "demo:code",
        "prose": "demo:prose",
        "arithmetic": "demo:arithmetic",
    }
    assert config == Config()
    assert (config.server.host, config.server.port, config.server.http_port) == ("127.0.0.1", 50051, 8000)


def test_an_empty_file_and_empty_sections_have_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")).config == Config()
    assert load_config(write(tmp_path, "pool:\nserver: {}\n")).config == Config()


def test_a_source_can_stand_alone_and_paths_start_at_the_file(tmp_path: Path, shape: str) -> None:
    text = f"llms:\n  a: {shape}\n  b:\n    source: shapes\n    rate: 3\ncompile:\n  cache: kept\n"
    config = load_config(write(tmp_path, text)).config
    assert config.llms["a"].source == f"random:{tmp_path}/shapes/tiny.json"
    assert config.llms["b"].source == f"{tmp_path}/shapes"
    assert config.llms["b"].rate == 3.0
    assert config.compile.cache == tmp_path / "kept"


def test_the_compile_cache_is_on_by_default_and_can_be_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/kept")
    assert Config().compile.cache == Path("/kept/muxjax/xla")
    assert load_config(write(tmp_path, "compile: {cache: off}")).config.compile.cache is None


@pytest.mark.parametrize(
    ("size", "bytes_"), [("4096", 4096), ("512MiB", 512 << 20), ("1.5 GiB", 3 << 29), ("2GB", 2 * 10**9), ('"10kB"', 0)]
)
def test_sizes(tmp_path: Path, size: str, bytes_: int) -> None:
    path = write(tmp_path, f"pool: {{memory: {size}}}")
    if bytes_:
        assert load_config(path).config.pool.memory == bytes_
    else:
        with pytest.raises(ConfigurationError, match=r"pool.memory: must be a size such as 512MiB"):
            load_config(path)


def test_a_degree_of_tensor_parallelism_must_be_one_that_there_is(tmp_path: Path) -> None:
    assert complaints(tmp_path, "tensor_parallel: 3") == ["1: tensor_parallel: must be 1, 2, 4 or 8, not 3"]
    spec = unit_spec(load_config(write(tmp_path, "tensor_parallel: 4")).config)
    assert spec.tensor_parallel == 4
    with pytest.raises(PlanError, match=r"tensor_parallel: is 4, but there is no device 1.*; this machine has 1"):
        first_devices(spec)


def test_devices_that_differ_do_not_share_llms(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [SimpleNamespace(device_kind=f"NVIDIA {kind}") for kind in ("H100", "H100", "A100")]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert find_devices([1, 0]) == (devices[1], devices[0])
    with pytest.raises(PlanError, match=r"one kind.*: they are 1 x NVIDIA H100 and 1 x NVIDIA A100"):
        find_devices([1, 2])


def test_all_mistakes_are_reported_at_once_with_their_lines(tmp_path: Path, shape: str) -> None:
    text = f"""\
llms:
  one:
    source: {shape}
    rate: -1
    dtpye: float32
  two: no/such/folder
  three: {{dtype: fp16, max_sequences: yes, rate: .nan}}
  one: {shape}
  4: {shape}
  bad name: {shape}
sever:
  port: 1
server:
  port: 99999
  host: 3
pool: {{memory: 12 parsecs, lane: 100}}
compile: 7
"""
    assert complaints(tmp_path, text) == [
        f"6: llms.two.source: there is no folder {tmp_path}/no/such/folder: "
        "give a checkpoint's folder, demo:NAME or random:CONFIG.json",
        "7: llms.three.source: is missing: add it",
        "7: llms.three.dtype: must be 'float32', 'bfloat16' or 'float16', not 'fp16'",
        "7: llms.three.rate: must be a finite number, not nan",
        "7: llms.three.max_sequences: must be a valid integer, not True",
        "8: llms.one: is here a second time (the first is in line 2): delete one of them",
        "9: llms.4: must be a valid string, not 4: put it in quotes",
        "10: llms.bad name: is no name: use letters, digits, '.', '_', '/' and '-', beginning with a letter or digit",
        "11: sever: is no key of this section (did you mean 'server'?); "
        "its keys are llms, architectures, tensor_parallel, pool, device, scheduler, server, logging, compile",
        "14: server.port: must be less than or equal to 65535, not 99999",
        "15: server.host: must be a valid string, not 3",
        "16: pool.memory: must be a size such as 512MiB, 2GiB or 1.5GB, not '12 parsecs'",
        "16: pool.lane: must be a power of two, not 100",
        "17: compile: must be a section of keys and values, not 7",
    ]


def test_objectives_reach_the_unit_and_their_mistakes_are_found(tmp_path: Path, shape: str) -> None:
    config = load_config(write(tmp_path, f"llms:\n  a:\n    source: {shape}\n    slo: {{ttft: 0.5}}\n  b: {shape}\n"))
    a, b = unit_spec(config.config).llms
    assert (a.slo, b.slo) == (SLO(ttft=0.5), None)
    wrong = complaints(tmp_path, f"llms:\n  a:\n    source: {shape}\n    slo:\n      ttft: 0\n      tpt: 1\n")
    assert wrong[0].startswith("5: llms.a.slo.ttft: must be greater than 0")
    assert wrong[1] == "6: llms.a.slo.tpt: is no key of this section (did you mean 'tpot'?); its keys are ttft, tpot"


def test_unknown_keys_are_shown_with_the_nearest_known_one(tmp_path: Path, shape: str) -> None:
    assert complaints(tmp_path, f"llms:\n  a:\n    source: {shape}\n    max_seqences: 3\n") == [
        "4: llms.a.max_seqences: is no key of this section (did you mean 'max_sequences'?); "
        "its keys are source, dtype, quantization, rate, max_context, max_sequences, max_waiting, slo"
    ]


def test_memory_and_blocks_exclude_each_other(tmp_path: Path) -> None:
    assert complaints(tmp_path, "\npool: {memory: 1MiB, blocks: 5}") == [
        "2: pool: has both memory and blocks: keep one of them"
    ]


def test_missing_models_are_named(tmp_path: Path) -> None:
    assert complaints(tmp_path, "llms: {}") == ["1: llms: is empty: name at least one, or leave the section out"]
    (line,) = complaints(tmp_path, "llms: {a: 'random:x.json'}")
    assert line == f"1: llms.a.source: there is no file {tmp_path}/x.json: give the path of a config.json"
    (line,) = complaints(tmp_path, "llms: {a: 'demo:nothing'}")
    assert line.startswith("1: llms.a.source: there is no demo model 'nothing'; there are: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("server:\n  port: [1", "2: this is not YAML: "),
        ("server: !!python/object:os.system {}", "1: this is not YAML: "),
        ("\tserver:", "1: this is not YAML: "),
        ("a: 1\n---\nb: 2", "2: this is not YAML: "),
        ("- server", "1: must be a section of keys and values, not ['server']"),
        ("server: 2024-99-99", " this is not YAML: month must be in 1..12"),
        ("\x00", " this is not YAML: unacceptable character"),
        ("[" * 1000, " this is not YAML: maximum recursion depth"),
        ("pool: &a\n  memory: *a", "2: pool.memory: "),
    ],
)
def test_what_is_not_yaml_is_one_clear_error(tmp_path: Path, text: str, line: str) -> None:
    (complaint,) = complaints(tmp_path, text)
    assert complaint.startswith(line)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing\.yaml: cannot be read: No such file or directory"):
        load_config(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"binary\.yaml: cannot be read: it is not UTF-8 text"):
        load_config(tmp_path / "binary.yaml")


def test_complaints_that_come_later_get_their_lines_too(tmp_path: Path, shape: str) -> None:
    loaded = load_config(write(tmp_path, f"llms:\n  llama-3.1:\n    source: {shape}\n    max_context: 99\npool:\n"))
    error = loaded.error(["llms.llama-3.1.max_context: 99 is more than 64", "pool.blocks: too few", "too bad"])
    assert str(error).replace(str(tmp_path), "") == (
        "/muxjax.yaml:1: too bad\n"
        "/muxjax.yaml:4: llms.llama-3.1.max_context: 99 is more than 64\n"
        "/muxjax.yaml:5: pool.blocks: too few"
    )


def test_the_unit_has_the_files_values_and_the_devices_defaults(tmp_path: Path, shape: str) -> None:
    text = f"llms: {{a: {{source: '{shape}', dtype: bfloat16, rate: 2}}, b: '{shape}'}}\npool: {{memory: 1MiB}}"
    spec = unit_spec(load_config(write(tmp_path, text)).config)
    assert [(llm.name, llm.dtype, llm.rate) for llm in spec.llms] == [("a", "bfloat16", 2.0), ("b", "float32", 1.0)]
    assert spec.pool.num_blocks == (1 << 20) // (2 * 32 * 128 * 4)
    assert unit_spec(Config()).pool.num_blocks == 512 * 32
    assert spec.scheduling.policy == "adbs"


def test_the_documentation_is_made_from_the_schema() -> None:
    example = (ROOT / "examples" / "three_models.yaml").read_text()
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == reference(example), "run `python -m muxjax.config.reference > docs/configuration.md`"

"""A placement's units, each in an engine of its own on a device of its own."""

import json
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from muxjax.placement.placement import PlacedLLM, PlacedUnit, Placement
from muxjax.placement.placement_file import write_placement
from muxjax.serve.__main__ import main
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from tests.muxjax.serve.process import ROOT, serve_process
from tests.muxjax.serve.test_serve import SHAPE, address, request, tokens


def llm(name: str, source: str | None = "random:ids.json", tensor_parallel: int = 1) -> PlacedLLM:
    return PlacedLLM(name, "tiny", 2.0, tensor_parallel, 50, 4, 2.0, 100.0, 50.0, source)


def unit(device: int, *llms: PlacedLLM, node: int = 0) -> PlacedUnit:
    return PlacedUnit(node, (device,), 1.0, llms)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ids.json").write_text(json.dumps(SHAPE))
    return tmp_path


def write(folder: Path, *units: PlacedUnit) -> str:
    path = folder / "placement.yaml"
    write_placement(Placement("greedy", 0.1, 4.0, 4.0, 4.0, units), path)
    return str(path)


TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


def test_two_units_serve_from_two_devices_with_the_tokens_of_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TWO_DEVICES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    path = write(folder, unit(0, llm("a"), llm("b")), unit(1, llm("c")))
    check = [sys.executable, "-m", "muxjax.serve", path, "--check"]
    plan = subprocess.run(check, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert re.findall(r"^unit (\d), on (\S+):$", plan, re.MULTILINE) == [("0", "cpu:0"), ("1", "cpu:1")]
    assert plan.count("pool       ") == 2

    with serve_process(path, "--port", "0", "--http-port", "0", "--trace", str(folder / "trace.json")) as server:
        server.wait_for("serving")
        with grpc.insecure_channel(address(server)) as channel:
            stub = InferenceStub(channel)
            calls = [stub.Generate(request(name, max_tokens=20, ignore_eos=True)) for name in "abc" * 3]
            answers = [tokens(call) for call in calls]
            assert all(len(answer) == 20 and answer == answers[0] for answer in answers)
            status = stub.GetStatus(pb.GetStatusRequest())
            assert [model.name for model in status.models] == ["a", "b", "c"]
            assert status.blocks_free == status.blocks_total
            quotas = {model.name: model.blocks_quota for model in status.models}
            assert quotas["c"] == status.blocks_total // 2
            assert quotas["a"] == quotas["b"] == quotas["c"] // 2
            with pytest.raises(grpc.RpcError) as unknown:
                list(stub.Generate(request("d", max_tokens=1)))
            assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        server.process.terminate()
        server.wait_for("stopped")
        assert server.process.wait(20) == 0
    for number, names in ((0, "ab"), (1, "c")):
        events = json.loads((folder / f"trace-{number}.json").read_text())
        assert {event["args"]["name"][0] for event in events if event["name"] == "thread_name"} == set(names)


@pytest.mark.parametrize(
    ("units", "words"),
    [
        (
            (PlacedUnit(0, (0, 1), 1.0, (llm("a", tensor_parallel=2),)),),
            "units.0.devices: there is no device 1; this machine has 1",
        ),
        (
            (PlacedUnit(0, (0, 1, 2), 1.0, (llm("a", tensor_parallel=3),)),),
            "units.0.devices: are 3; a unit has 1, 2, 4",
        ),
        ((unit(0, llm("a", tensor_parallel=2)),), "units.0.llms.0.tensor_parallel: is 2, but an LLM is spread over"),
        ((PlacedUnit(0, (0, 0), 1.0, (llm("a", tensor_parallel=2),)),), "device 0 has units.0 already"),
        ((unit(7, llm("a")),), "units.0.devices: there is no device 7; this machine has 1"),
        ((unit(0, llm("a", source=None)),), "units.0.llms.0.source: is missing"),
        ((unit(0, llm("a"), node=1),), "units.0.node: is 1, and one server serves one node"),
        ((unit(0, llm("a")), unit(0, llm("b"))), "units.1.devices: device 0 has units.0 already"),
        ((unit(0, llm("a"), llm("a")),), "units.0: a is placed a second time"),
        ((unit(0),), "units: none of them has an LLM"),
        ((unit(0, llm("a", source="random:gone.json")),), "there is no file"),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_loads(
    folder: Path, capsys: pytest.CaptureFixture[str], units: tuple[PlacedUnit, ...], words: str
) -> None:
    assert main([write(folder, *units), "--check"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err

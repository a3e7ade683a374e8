"""The admin port and the client's commands for it, on a server that goes on serving."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from tests.muxjax.serve.process import ROOT, ServerProcess, serve_process
from tests.muxjax.serve.test_serve import IDS, SHAPE, address, request, tokens, write_config

KEY = "an-admin-key-of-some-length"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "ids.json").write_text(json.dumps(SHAPE))
    (folder / "admin.key").write_text(KEY + "\n")
    (folder / "admin.key").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    config = write_config(folder, f"{{ids: {IDS}}}", server="admin_port: 0, admin_key: admin.key")
    with serve_process(config, "--trace", str(folder / "trace.json")) as server:
        server.wait_for("serving")
        yield server


def admin(server: ServerProcess, *arguments: str, key: str | None = KEY) -> tuple[int, str, str]:
    """The exit code and the output of one command."""
    where = ["--address", server.named("start")[0]["admin_address"], *(["--api-key", key] if key else [])]
    command = [sys.executable, "-m", "muxjax.client", *arguments, *where]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def states(server: ServerProcess) -> dict[str, tuple[int, int]]:
    with grpc.insecure_channel(address(server)) as channel:
        models = InferenceStub(channel).GetStatus(pb.GetStatusRequest()).models
        return {model.name: (model.state, model.blocks_quota) for model in models}


def test_a_model_comes_serves_and_goes_while_another_streams(server: ServerProcess, folder: Path) -> None:
    with grpc.insecure_channel(address(server)) as channel:
        stub = InferenceStub(channel)
        running = stub.Generate(request("ids", max_tokens=3000, ignore_eos=True))
        next(running)
        code, out, err = admin(
            server, "load", "more", f"random:{folder}/ids.json", "--rate", "3", "--max-sequences", "4"
        )
        assert (code, err) == (0, "")
        assert re.search(r"^more: ready \(\d+\.\d s\)$", out, re.MULTILINE)
        assert len(tokens(stub.Generate(request("more", max_tokens=9, ignore_eos=True)))) == 9
        assert states(server)["more"][1] > states(server)["ids"][1]
        assert admin(server, "unload", "more", "--seconds", "5") == (0, "more: unloaded\n", "")
        assert "more" not in states(server)
        with pytest.raises(grpc.RpcError) as gone:
            list(stub.Generate(request("more", max_tokens=9)))
        assert gone.value.code() == grpc.StatusCode.NOT_FOUND
        running.cancel()


def test_draining_resuming_rates_and_quotas(server: ServerProcess) -> None:
    assert admin(server, "drain", "ids") == (0, "ids: draining\n", "")
    assert states(server)["ids"][0] == pb.MODEL_STATE_DRAINING
    assert admin(server, "resume", "ids") == (0, "ids: ready\n", "")
    assert admin(server, "set-rate", "ids", "2.5") == (0, "ids: 2.5 requests/s\n", "")
    assert admin(server, "set-quota", "ids", "300") == (0, "ids: 300 head blocks\n", "")
    assert states(server)["ids"] == (pb.MODEL_STATE_READY, 300)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set-rate", "nobody", "1"], "no model 'nobody' here"),
        (["set-quota", "ids", "1"], "must lie between"),
        (["load", "ids", "demo:code"], "ids is ready already: unload it first"),
        (["load", "x", "/no/such/folder"], "there is no folder /no/such/folder"),
        (["load", "x", "demo:code", "--max-context", "1"], "must be greater than or equal to 2"),
        (["resume", "ids"], "ids is ready, not draining"),
    ],
)
def test_what_cannot_be_is_one_clear_line(server: ServerProcess, arguments: list[str], words: str) -> None:
    code, out, err = admin(server, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err


@pytest.mark.parametrize("key", [None, "not-the-admins-key"])
def test_without_the_key_nothing_changes(server: ServerProcess, key: str | None) -> None:
    code, _, err = admin(server, "drain", "ids", key=key)
    assert code == 2
    assert "key" in err
    assert states(server)["ids"][0] == pb.MODEL_STATE_READY


def test_the_trace_of_a_killed_server_can_be_read(server: ServerProcess, folder: Path) -> None:
    with grpc.insecure_channel(address(server)) as channel:
        assert len(tokens(InferenceStub(channel).Generate(request("ids", max_tokens=5, ignore_eos=True)))) == 5
    text = ""
    while '"reason": "length"' not in text:
        text = (folder / "trace.json").read_text()
    server.process.kill()
    events = json.loads((folder / "trace.json").read_text().rstrip(",\n") + "]")
    assert {event["ph"] for event in events} >= {"M", "X", "C", "b", "e"}

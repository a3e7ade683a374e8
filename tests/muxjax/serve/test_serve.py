"""`python -m muxjax.serve`, from its command line to streamed tokens and back to a clean end."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import grpc
import httpx2 as httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from muxjax.config import load_config
from muxjax.models.tokenizer import Tokenizer
from muxjax.serve.__main__ import main
from muxjax.serve.closing import closing_block
from muxjax.serve.display import Addresses
from muxjax.serving.endpoint import Endpoint
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from tests.models import checkpoints, tokenizers_for_tests
from tests.muxjax.serve.process import ROOT, ServerProcess, serve_process

SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes with and without a tokenizer, and a checkpoint whose weights are cut short."""
    folder = tmp_path_factory.mktemp("models")
    tokenizers_for_tests.load(folder / "text", tokenizers_for_tests.byte_level())
    (folder / "text" / "config.json").write_text(json.dumps(SHAPE))
    (folder / "ids.json").write_text(json.dumps(SHAPE))
    checkpoints.write_checkpoint(folder / "corrupt", SHAPE, checkpoints.seeded_tensors(SHAPE))
    weights = folder / "corrupt" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return folder


def write_config(folder: Path, llms: str, server: str = "http_port: 0") -> str:
    """A configuration's path."""
    path = folder / "muxjax.yaml"
    common = (
        f"pool: {{memory: 16MiB}}\nscheduler: {{max_prefill_tokens: 64}}\ncompile: {{cache: {ROOT}/.pytest_cache/xla}}"
    )
    path.write_text(f"llms: {llms}\n{common}\nserver: {{port: 0, {server}}}\n")
    return str(path)


TEXT = "{source: 'random:text/config.json', max_sequences: 4}"
IDS = "{source: 'random:ids.json', max_sequences: 4}"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    config = write_config(folder, f"{{corrupt: corrupt, text: {TEXT}, ids: {IDS}}}")
    with serve_process(config) as server:
        server.wait_for("serving")
        yield server
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("stopped")
        assert server.process.wait(20) == 0


@pytest.fixture
def stub(server: ServerProcess) -> Iterator[InferenceStub]:
    with grpc.insecure_channel(address(server)) as channel:
        yield InferenceStub(channel)


def address(server: ServerProcess) -> str:
    return server.named("start")[0]["address"]


def addresses(server: ServerProcess) -> Addresses:
    (start,) = server.named("start")
    return Addresses(grpc=start["address"], http=start["http_address"])


def tokens(messages: Iterator[pb.GenerateResponse]) -> list[int]:
    return [token for message in messages for token in message.token_ids]


def request(model: str, **sampling: object) -> pb.GenerateRequest:
    prompt = pb.TokenIds(ids=[5, 6, 7])
    return pb.GenerateRequest(model=model, token_ids=prompt, sampling=pb.SamplingParams(temperature=0, **sampling))


def test_its_progress_is_told_in_json_lines(server: ServerProcess) -> None:
    (start,) = server.named("start")
    assert start["models"] == ["corrupt", "text", "ids"]
    (failed,) = server.named("failed")
    assert failed["model"] == "corrupt"
    assert "model.safetensors" in failed["error"]
    compiling = [event for event in server.named("compiling") if event["model"] == "text"]
    assert [event["done"] for event in compiling] == list(range(compiling[0]["total"] + 1))
    assert [event["model"] for event in server.named("ready")] == ["text", "ids"]
    assert server.named("serving")[0]["models"] == ["text", "ids"]


def test_both_models_stream_and_the_failed_one_says_why(server: ServerProcess, stub: InferenceStub) -> None:
    assert len(tokens(stub.Generate(request("text", max_tokens=12, ignore_eos=True)))) == 12
    assert len(tokens(stub.Generate(request("ids", max_tokens=12, ignore_eos=True)))) == 12
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.Generate(request("corrupt")))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "model.safetensors" in refused.value.details()


def test_text_goes_in_and_comes_out(server: ServerProcess) -> None:
    command = [sys.executable, "-m", "muxjax.client", "generate", "--address", address(server), "--model", "text"]
    options = ["--prompt", "the quick", "--max-tokens", "16", "--temperature", "0", "--ignore-eos"]
    runs = [
        subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout) > 4


def test_a_chat_goes_through_the_models_template(server: ServerProcess) -> None:
    command = [sys.executable, "-m", "muxjax.client", "chat", "--address", address(server), "--model", "text"]
    options = ["--max-tokens", "8", "--temperature", "0", "--ignore-eos"]
    done = subprocess.run([*command, *options], input="hi\n", capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_closing_lines_can_be_copied(server: ServerProcess, folder: Path) -> None:
    config = load_config(Path(write_config(folder, f"{{text: {TEXT}, ids: {IDS}}}"))).config
    endpoints = [Endpoint("text", 400, 4096, Tokenizer.load(folder / "text")), Endpoint("ids", 400, 4096, None)]
    lines = closing_block(config, endpoints, addresses(server)).splitlines()
    commands = [line.strip() for line in lines if " -m muxjax.client " in line or "curl" in line]
    assert len(commands) == 4
    page, _, top = next(line for line in lines if line.startswith("Watch it at ")).partition(", or in a terminal: ")
    assert httpx.get(page.removeprefix("Watch it at "), follow_redirects=True).status_code == 200
    commands.append(f"{top} --once")
    python = dedent("\n".join(lines[lines.index("or, in Python:") + 1 :]))
    for command in (*(["bash", "-c", command] for command in commands), [sys.executable, "-c", python]):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout


def test_many_streams_of_both_models_at_once(stub: InferenceStub) -> None:
    alone = {name: tokens(stub.Generate(request(name, max_tokens=30, ignore_eos=True))) for name in ("text", "ids")}
    calls = [(name, stub.Generate(request(name, max_tokens=30, ignore_eos=True))) for name in ("text", "ids") * 8]
    assert all(tokens(call) == alone[name] for name, call in calls)


def test_the_page_knows_what_every_model_did(server: ServerProcess, stub: InferenceStub) -> None:
    tokens(stub.Generate(request("text", max_tokens=40, ignore_eos=True)))
    url = f"http://{addresses(server).http}/ui/"
    assert "<title>muxjax</title>" in httpx.get(url).text
    for _ in range(100):  # it is a second old at most
        llms = {llm["name"]: llm for llm in httpx.get(f"{url}status.json").json()["unit"]["llms"]}
        if llms["text"]["generated_tokens"] >= 40 and llms["text"]["tpot"] is not None:
            break
        time.sleep(0.05)
    assert list(llms) == ["corrupt", "text", "ids"]
    assert "model.safetensors" in llms["corrupt"]["error"]
    assert 0 < llms["text"]["tpot"]["p50"] <= llms["text"]["tpot"]["p99"]
    assert llms["text"]["ttft"]["p50"] > 0
    assert llms["text"]["decode_share"] > 0


def test_cancelled_and_late_requests_leave_nothing_behind(stub: InferenceStub) -> None:
    cancelled = stub.Generate(request("text", max_tokens=4000, ignore_eos=True))
    next(cancelled)
    cancelled.cancel()
    with pytest.raises(grpc.RpcError) as late:
        list(stub.Generate(request("text", max_tokens=4000, ignore_eos=True), timeout=0.3))
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    for _ in range(200):
        status = stub.GetStatus(pb.GetStatusRequest())
        if status.blocks_free == status.blocks_total:
            break
    assert status.blocks_free == status.blocks_total
    assert all(model.running == model.waiting == 0 for model in status.models)


def test_health_knows_the_ready_models(server: ServerProcess) -> None:
    with grpc.insecure_channel(address(server)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name, status in (("", 1), ("text", 1), ("ids", 1), ("corrupt", 2)):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == status


def test_sigterm_lets_running_requests_finish(folder: Path) -> None:
    with serve_process(write_config(folder, f"{{ids: {IDS}}}")) as server:
        server.wait_for("serving")
        with grpc.insecure_channel(address(server)) as channel:
            call = InferenceStub(channel).Generate(request("ids", max_tokens=500, ignore_eos=True))
            first = next(call)
            server.process.send_signal(signal.SIGTERM)
            assert server.wait_for("stopping")["requests"] == 1
            assert len(first.token_ids) + len(tokens(call)) == 500
        server.wait_for("stopped")
        assert server.process.wait(20) == 0


def test_a_second_ctrl_c_stops_at_once(folder: Path) -> None:
    with serve_process(write_config(folder, f"{{ids: {IDS}}}")) as server:
        server.wait_for("serving")
        with grpc.insecure_channel(address(server)) as channel:
            call = InferenceStub(channel).Generate(request("ids", max_tokens=4000, n=4, ignore_eos=True))
            next(call)
            server.process.send_signal(signal.SIGINT)
            server.wait_for("stopping")
            server.process.send_signal(signal.SIGINT)
            with pytest.raises(grpc.RpcError) as ended:
                list(call)
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        server.wait_for("stopped")
        assert server.process.wait(20) == 0
        (line,) = server.log().splitlines()
        assert json.loads(line)["reason"] == "ServerStopping"


def test_when_nothing_loads_it_ends(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([write_config(folder, "{corrupt: corrupt}")]) == 1
    captured = capsys.readouterr()
    events = [json.loads(line)["event"] for line in captured.out.splitlines()]
    assert events[0] == "start"
    assert events[-2:] == ["failed", "stopped"]
    assert captured.err == "no model could be loaded\n"


@pytest.mark.parametrize("option", ["--port", "--http-port"])
def test_a_port_in_use_is_told_before_anything_loads(
    folder: Path, capfd: pytest.CaptureFixture[str], option: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main([write_config(folder, f"{{ids: {IDS}}}"), option, port]) == 2
    captured = capfd.readouterr()
    reason = f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another with {option} "
    assert captured.err.startswith(reason)
    assert "loading" not in captured.out


def test_check_shows_the_plan_and_loads_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(folder, "{corrupt: corrupt, ids: {source: 'random:ids.json', rate: 3, max_context: 100}}")
    assert main([config, "--check", "--host", "0.0.0.0", "--port", "7"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["ids"][2:] == ["3", "110.6", "KiB", "float32", "100", "256", "B", "383", "(75%)", "48,896"]
    assert "pool       512 head blocks of 32 KiB = 16 MiB (32 tokens x 128 float32)" in out
    assert "device     cpu (cpu)" in out
    assert "attention  " in out
    assert "server     gRPC on 0.0.0.0:7, HTTP on 0.0.0.0:0" in out


def test_mistakes_of_every_stage_come_with_their_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "wrong.yaml"
    path.write_text("llms:\n  a: nowhere\nserver:\n  prt: 3\n")
    assert main([str(path)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{path}:2: llms.a.source: there is no folder")
    assert second.startswith(f"{path}:4: server.prt: is no key")
    path.write_text("llms:\n  a:\n    source: random:ids.json\n    max_context: 5000\n")
    assert main([str(path)]) == 2
    assert capsys.readouterr().err == f"{path}:4: llms.a.max_context: 5000 is more than the model's own 4096\n"


def test_http_can_be_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([write_config(folder, "{corrupt: corrupt}", "http_port: null")]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[0])["http_address"] is None


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--http-port", "-1"], ["--port", "x"], ["--wrong"]])
def test_a_wrong_command_line(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2

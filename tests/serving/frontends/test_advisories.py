"""What servers of this kind got wrong, 2024 to 2026, and that this one does not: each test names its advisories.

Where a rule concerns requests, the same wrong value is sent over gRPC and over HTTP.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx2 as httpx
import pytest

from muxjax.config import Config
from muxjax.serving.frontends.access import AccessControl, Caller, digest
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.server import GrpcServer
from muxjax.serving.frontends.http.server import HttpServer
from muxjax.serving.pool import Pool
from tests.serving.frontends.echo import CodePoints, Echo, EchoUnit, serve

ROOT = Path(__file__).parents[3]
TREES = {
    path.relative_to(ROOT): ast.parse(path.read_text())
    for folder in ("serving", "models", "pallas_kernels", "placement", "muxjax")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
}
SERVED = {path: tree for path, tree in TREES.items() if path.parts[0] in ("serving", "models")}
CHAT: Any = [{"role": "user", "content": "a"}]


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(EchoUnit()) as running:
        yield running


def over_http(echo: Echo, fields: dict[str, Any]) -> str:
    """The message of a refusal."""
    body = {"model": "echo", "prompt": "a", "max_tokens": 5, **fields}
    response = httpx.post(f"{echo.url}/v1/completions", json=body)
    assert response.status_code == 400, response.text
    return str(response.json()["error"]["message"])


def over_grpc(echo: Echo, fields: dict[str, Any]) -> str:
    """The message of a refusal."""
    prompt = fields.pop("prompt", "a")
    message = pb.GenerateRequest(model="echo", text=prompt, sampling=pb.SamplingParams(**{"max_tokens": 5, **fields}))
    with echo.stub() as stub, pytest.raises(grpc.RpcError) as refused:
        list(stub.Generate(message))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return str(refused.value.details())


both = pytest.mark.parametrize("send", [over_http, over_grpc])
type Send = Callable[[Echo, dict[str, Any]], str]


def modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_nothing_is_unpickled_or_evaluated() -> None:
    """CVE-2024-11041, CVE-2025-29783, CVE-2025-32444, CVE-2025-30165 and more: pickle on sockets (vLLM, SGLang)."""
    serializers = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    for path, tree in TREES.items():
        assert not serializers & {name.split(".")[0] for name in modules(tree)}, path
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            assert not (isinstance(call.func, ast.Name) and call.func.id in ("eval", "exec")), path
            assert not any(keyword.arg == "allow_pickle" for keyword in call.keywords), path


def test_loopback_is_the_default(echo: Echo) -> None:
    """CVE-2025-30202: sockets that listened on all interfaces (vLLM's ZeroMQ)."""
    assert Config().server.host == "127.0.0.1"
    for server in (GrpcServer, HttpServer):
        assert server.__init__.__kwdefaults__["host"] == "127.0.0.1"
    assert echo.address.startswith("127.0.0.1:")
    assert echo.http.address.startswith("127.0.0.1:")


@both
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 10**6),
        ("logprobs", 10**6),
        ("stop", ["x"] * 1000),
        ("stop", ["x" * 10_000]),
        ("stop_token_ids", [1] * 10_000),
        ("logit_bias", dict.fromkeys(range(10_000), 1.0)),
    ],
)
def test_numbers_and_lists_are_capped(echo: Echo, send: Send, field: str, value: Any) -> None:
    """CVE-2026-34756, CVE-2026-73559, CVE-2026-116173: unbounded n, logprobs and logit_bias exhausted memory."""
    assert send(echo, {field: value}).startswith(f"{field}: ")
    assert not echo.unit.live


def test_lists_of_prompts_and_of_messages_are_capped(echo: Echo) -> None:
    """CVE-2026-34756: thousands of prompts in one request (HTTP; gRPC takes one)."""
    assert over_http(echo, {"prompt": ["a"] * 65}).startswith("prompt: has 65 prompts; at most 64")
    body = {"model": "echo", "messages": CHAT * 4097}
    response = httpx.post(f"{echo.url}/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")


@both
@pytest.mark.parametrize("value", [-1.0, 1e-9, 1e300])
def test_a_temperature_that_would_break_the_step_is_refused(echo: Echo, send: Send, value: float) -> None:
    """CVE-2026-54235: bad sampling values killed the engine that all requests share."""
    assert send(echo, {"temperature": value}).startswith("temperature: ")


@pytest.mark.parametrize("field", ["temperature", "top_p", "min_p", "presence_penalty", "repetition_penalty"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_not_finite_is_refused(echo: Echo, field: str, value: str) -> None:
    """CVE-2026-54235: a NaN temperature. JSON has no NaN and no infinity; protobuf has."""
    assert over_grpc(echo, {field: float(value)}).startswith(f"{field}: ")
    word = {"nan": "NaN", "inf": "1e999", "-inf": "-1e999"}[value]
    content = f'{{"model": "echo", "prompt": "a", "{field}": {word}}}'
    headers = {"Content-Type": "application/json"}
    assert httpx.post(f"{echo.url}/v1/completions", content=content, headers=headers).status_code == 400


@both
def test_min_tokens_beyond_max_tokens_are_refused(echo: Echo, send: Send) -> None:
    """CVE-2026-114051: min_tokens that could never be reached kept the engine from ending a request."""
    assert send(echo, {"min_tokens": 6}).startswith("min_tokens: is 6, but max_tokens and the context allow 5")
    assert send(echo, {"min_tokens": 10**9}).startswith("min_tokens: ")


def test_others_do_not_notice_bad_requests() -> None:
    """CVE-2026-54235, CVE-2026-114051: the engine, and who else is served, survive any one request."""
    with serve(EchoUnit()) as echo, echo.stub() as stub:
        running = stub.Generate(
            pb.GenerateRequest(model="echo", text="abc", sampling=pb.SamplingParams(max_tokens=900))
        )
        next(running)
        for fields in ({"temperature": -1.0}, {"n": 10**6}, {"min_tokens": 6}):
            over_http(echo, dict(fields))
            over_grpc(echo, dict(fields))
        assert sum(len(message.token_ids) for message in running) > 800
        assert not echo.unit.aborted


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/models", "/v1/models/../models", "/health/../v1/models", "/health;/v1/models", "/HEALTH", "/version/"),
        *("//version", "/health%00", "/metrics", "/openapi.json"),
    ],
)
def test_paths_are_open_by_a_list_and_not_by_what_they_look_like(path: str) -> None:
    """CVE-2026-48746: authentication bypassed by paths that a prefix test let through."""
    with serve(EchoUnit(), AccessControl([(digest("k" * 16), Caller("k"))])) as echo:
        url = httpx.URL(echo.url).copy_with(raw_path=path.encode())
        assert httpx.get(url).status_code == 401


def test_ids_are_opaque_and_nothing_is_fetched(echo: Echo) -> None:
    """CVE-2025-6242, CVE-2026-24779: server-side requests forged through image URLs and model names."""
    for part in (
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file:///etc/passwd"}},
    ):
        body = {"model": "echo", "messages": [{"role": "user", "content": [part]}]}
        error = httpx.post(f"{echo.url}/v1/chat/completions", json=body)
        assert error.status_code == 400
        assert "only text is taken, and nothing fetched" in error.json()["error"]["message"]
    for model in ("http://169.254.169.254/", "../../etc/passwd", "file:///etc/passwd", "\0", "a" * 10_000):
        response = httpx.post(f"{echo.url}/v1/completions", json={"model": model, "prompt": "a"})
        assert response.status_code == 404
        assert len(response.text) < 500
    clients = {"urllib.request", "http.client", "requests", "httpx", "httpx2", "urllib3", "aiohttp.ClientSession"}
    for path, tree in SERVED.items():
        names = set(modules(tree))
        assert not any(name == client or name.startswith(f"{client}.") for name in names for client in clients), path


@pytest.mark.parametrize("field", ["chat_template", "chat_template_kwargs"])
def test_templates_come_with_the_model_and_never_with_a_request(echo: Echo, field: str) -> None:
    """CVE-2024-34359, CVE-2025-61620: templates from requests ran code, or for ever."""
    value = "{{ 1 }}" if field == "chat_template" else {"chat_template": "{{ 1 }}"}
    body = {"model": "echo", "messages": CHAT, field: value}
    response = httpx.post(f"{echo.url}/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)


def test_no_cache_that_requests_fill_grows_without_bound() -> None:
    """CVE-2025-29770: a grammar cache filled the disk. Every cache where requests are served has a size."""
    for path, tree in SERVED.items():
        names = set(modules(tree))
        assert "functools.cache" not in names, path
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func).endswith("lru_cache"):
                sizes = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "maxsize"]
                assert sizes not in ([], ["None"]), path


def test_no_two_sequences_share_a_page() -> None:
    """CVE-2025-46570: how fast a prompt came told whether another tenant had sent it. Equal prompts share nothing."""
    pool = Pool(100)
    pool.add_llm("a", layers=1, kv_heads=1, head_dim=64)
    for sequence_id in (1, 2):
        pool.allocate("a", sequence_id=sequence_id, num_pages=3)
    assert not set(pool.page_table("a", 1).tolist()) & set(pool.page_table("a", 2).tolist())


def test_no_check_is_an_assertion() -> None:
    """Checks that `python -O` takes out, and that end the process when they fail."""
    for path, tree in TREES.items():
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), path


def test_failures_show_an_id_and_no_address(caplog: pytest.LogCaptureFixture) -> None:
    """CVE-2026-22778: addresses in error messages gave away where the heap was."""
    with serve(EchoUnit(fail_at=0)) as echo:
        body = {"model": "echo", "prompt": "a"}
        told = httpx.post(f"{echo.url}/v1/completions", json=body).json()["error"]["message"]
        with echo.stub() as stub, pytest.raises(grpc.RpcError) as failed:
            list(stub.Generate(pb.GenerateRequest(model="echo", text="a")))
    for message in (told, str(failed.value.details())):
        assert re.fullmatch(r"internal error [0-9a-f]{8}: the server's log says more", message)
        assert message.split()[2].rstrip(":") in caplog.text


@both
def test_lengths_are_checked_before_anything_is_done_with_a_text(
    echo: Echo, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2025-23319, CVE-2025-23310, CVE-2024-39720: oversized input reached native code (Triton, Ollama)."""
    monkeypatch.setattr("muxjax.serving.endpoint.MAX_CHARACTERS_PER_TOKEN", 1)
    monkeypatch.setattr(CodePoints, "encode", lambda *_, **__: pytest.fail("it was tokenised"))
    assert "100001 characters" in send(echo, {"prompt": "a" * 100_001})


def test_bodies_are_bounded_before_they_are_read() -> None:
    """CVE-2025-48956: headers and bodies of any size filled the memory (vLLM)."""
    with serve(EchoUnit(), max_body_bytes=10_000, max_message_bytes=10_000) as echo:
        response = httpx.post(f"{echo.url}/v1/completions", json={"model": "echo", "prompt": "a" * 10_000})
        assert response.status_code == 413
        assert httpx.get(f"{echo.url}/version", headers={"X-Long": "x" * 1_000_000}).status_code == 400
        with echo.stub() as stub, pytest.raises(grpc.RpcError) as refused:
            list(stub.Generate(pb.GenerateRequest(model="echo", text="a" * 10_001)))
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

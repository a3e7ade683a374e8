"""One line for every request that ends, however it ends, without a word of what it said."""

import json
import logging
import re
import time
from collections.abc import Iterator

import grpc
import httpx2 as httpx
import pytest

from muxjax.logs import JsonFormatter, TextFormatter
from muxjax.serving.frontends.access import AccessControl, Caller, digest
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from tests.serving.frontends.echo import Echo, EchoUnit, serve

SECRET_PROMPT, SECRET_KEY = "the patient's name is", "sk-12345"


@pytest.fixture
def echo() -> Iterator[Echo]:
    with serve(EchoUnit(), AccessControl([(digest(SECRET_KEY), Caller("clinic"))]), request_timeout=30.0) as running:
        yield running


@pytest.fixture(autouse=True)
def _at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="muxjax.requests")


def ask(echo: Echo, model: str = "echo", **sampling: object) -> None:
    with echo.stub() as stub:
        request = pb.GenerateRequest(model=model, text=SECRET_PROMPT, sampling=pb.SamplingParams(**sampling))
        list(stub.Generate(request, metadata=[("authorization", f"Bearer {SECRET_KEY}")]))


def lines(caplog: pytest.LogCaptureFixture, count: int = 1) -> list[dict[str, object]]:
    for _ in range(2000):
        records = [record for record in caplog.records if record.name == "muxjax.requests"]
        if len(records) >= count:
            break
        time.sleep(0.005)
    assert len(records) == count
    written = [JsonFormatter().format(record) for record in records]
    for text in (*written, *(TextFormatter().format(record) for record in records)):
        assert "patient" not in text
        assert SECRET_KEY not in text
        assert "\n" not in text
    return [json.loads(line) for line in written]


def test_a_finished_request(echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    ask(echo, max_tokens=5)
    (line,) = lines(caplog)
    assert re.fullmatch("[0-9a-f]{32}", str(line["request"]))
    assert (line["message"], line["level"], line["logger"]) == ("request ended", "info", "muxjax.requests")
    assert (line["model"], line["key"], line["reason"]) == ("echo", "clinic", "length")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (len(SECRET_PROMPT), 5)
    assert 0 < line["ttft"] <= line["seconds"] < 20


@pytest.mark.parametrize(
    ("model", "sampling", "reason", "field"),
    [
        ("echo", {"stop": ["patient" * 100]}, "InvalidRequest", "stop"),
        ("nobody", {}, "UnknownModel", None),
        ("broken", {}, "ModelNotReady", None),
    ],
)
def test_a_refused_request(
    echo: Echo, caplog: pytest.LogCaptureFixture, model: str, sampling: dict[str, object], reason: str, field: str
) -> None:
    with pytest.raises(grpc.RpcError):
        ask(echo, model, **sampling)
    (line,) = lines(caplog)
    assert (line["reason"], line.get("field"), line["model"]) == (reason, field, model)
    assert "ttft" not in line


@pytest.mark.parametrize(
    ("path", "body", "key", "reason", "field"),
    [
        ("/v1/completions", f'{{"model": "echo", "{SECRET_PROMPT}', SECRET_KEY, "InvalidRequest", "body"),
        (
            "/v1/completions",
            f'{{"model": "echo", "prompt": {{"a": "{SECRET_PROMPT}"}}}}',
            SECRET_KEY,
            "InvalidRequest",
            "prompt",
        ),
        ("/v1/completions", '{"model": "nobody", "prompt": "a"}', SECRET_KEY, "UnknownModel", None),
        ("/v1/completions", '{"model": "echo", "prompt": "a", "n": -1}', SECRET_KEY, "InvalidRequest", "n"),
        ("/v1/completions", "{}", f"{SECRET_KEY}0", "Unauthenticated", None),
        ("/v1/embeddings", "{}", SECRET_KEY, "HTTPNotFound", None),
    ],
)
def test_what_http_refuses_is_one_line_too(
    echo: Echo, caplog: pytest.LogCaptureFixture, path: str, body: str, key: str, reason: str, field: str | None
) -> None:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    assert httpx.post(f"{echo.url}{path}", content=body, headers=headers).status_code >= 400
    (line,) = lines(caplog)
    assert (line["reason"], line.get("field")) == (reason, field)


@pytest.mark.parametrize(
    ("key", "message", "reason"), [("wrong", b"", "Unauthenticated"), (SECRET_KEY, b"\xff\xff", "DecodeError")]
)
def test_what_grpc_refuses_is_one_line_too(
    echo: Echo, caplog: pytest.LogCaptureFixture, key: str, message: bytes, reason: str
) -> None:
    with grpc.insecure_channel(echo.address) as channel:
        call = channel.unary_stream("/muxjax.v1.Inference/Generate", None, None)
        with pytest.raises(grpc.RpcError):
            list(call(message, metadata=[("authorization", f"Bearer {key}")]))
    assert lines(caplog)[0]["reason"] == reason


def test_a_client_that_leaves(echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    with echo.stub() as stub:
        call = stub.Generate(
            pb.GenerateRequest(model="echo", text=SECRET_PROMPT), metadata=[("authorization", f"Bearer {SECRET_KEY}")]
        )
        next(call)
        call.cancel()
    (line,) = lines(caplog)
    assert line["reason"] == "abandoned"


def test_a_request_that_the_engine_gave_up(caplog: pytest.LogCaptureFixture) -> None:
    with serve(EchoUnit(fail_at=2)) as echo, pytest.raises(grpc.RpcError):
        ask(echo, max_tokens=5)
    assert lines(caplog)[0]["reason"] == "RequestFailed"


def test_text_lines_carry_the_fields(echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    ask(echo, max_tokens=5)
    lines(caplog)
    text = TextFormatter().format(next(record for record in caplog.records if record.name == "muxjax.requests"))
    assert re.search(r"INFO muxjax.requests: request ended request=\w{32} model=echo key=clinic reason=length ", text)

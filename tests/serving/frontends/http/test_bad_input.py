"""What clients send wrongly over HTTP: a precise error to that client, and nothing for the unit."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from muxjax.serving.frontends.http import body
from muxjax.serving.unit import RefusedError
from tests.serving.frontends.echo import Echo, EchoUnit, serve

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(EchoUnit(), max_body_bytes=200_000) as running:
        yield running


@pytest.fixture(scope="module")
def client(echo: Echo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=echo.url, timeout=10) as client:
        yield client


def completion(**fields: object) -> dict[str, object]:
    return {"model": "echo", "prompt": "a", "max_tokens": 2, **fields}


def chat(**fields: object) -> dict[str, object]:
    return {"model": "echo", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2, **fields}


def parts(*contents: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": list(contents)}]


BAD: list[tuple[str, dict[str, object], str]] = [
    (COMPLETIONS, {"prompt": "a"}, "model"),
    (COMPLETIONS, {"model": "echo"}, "prompt"),
    *[(COMPLETIONS, completion(**fields), next(iter(fields))) for fields in (
        {"model": 1}, {"prompt": 1}, {"prompt": None}, {"prompt": ""}, {"prompt": []}, {"prompt": {}},
        {"prompt": [-1]}, {"prompt": [0x110000]}, {"prompt": [2**70]}, {"prompt": ["a"] * 65}, {"prompt": [[]]},
        {"temperature": "1"}, {"temperature": -1}, {"temperature": True}, {"temperature": 1e308},
        {"top_p": 0}, {"top_p": 2}, {"top_k": -2}, {"top_k": 1.5}, {"min_p": -1}, {"n": 0}, {"n": 17}, {"n": 10**30},
        {"max_tokens": 0}, {"max_tokens": -1}, {"min_tokens": 3}, {"logprobs": 21}, {"logprobs": -1},
        {"logprobs": True}, {"seed": 2**64}, {"seed": -(2**63) - 1}, {"seed": "7"}, {"stop": ["x"] * 17},
        {"stop": ""}, {"stop": "x" * 257}, {"stop": [1]}, {"stop_token_ids": [-1]}, {"stop_token_ids": [1] * 65},
        {"logit_bias": {"x": 1}}, {"logit_bias": {"1": 101}}, {"logit_bias": {"-1": 1}},
        {"logit_bias": {str(token): 0 for token in range(301)}}, {"presence_penalty": 3},
        {"frequency_penalty": -3}, {"repetition_penalty": 0}, {"ignore_eos": 1}, {"best_of": 2}, {"suffix": "z"},
        {"stream": "yes"}, {"stream_options": {}}, {"stream_options": 1},
    )],
    (COMPLETIONS, completion(echo=True, logprobs=1), "logprobs"),
    *[(CHAT, chat(**fields), next(iter(fields))) for fields in (
        {"messages": []}, {"messages": "a"}, {"messages": [{"role": "user"}]}, {"messages": [{"content": "a"}]},
        {"messages": [{"role": "", "content": ""}] * 4097},
        {"top_logprobs": 2}, {"functions": [{}]}, {"response_format": {"type": "json_object"}},
        {"chat_template_kwargs": {"messages": []}}, {"max_completion_tokens": 0},
    )],
    (CHAT, chat(logprobs=True, top_logprobs=21), "logprobs"),
    (CHAT, chat(logprobs=1), "logprobs"),
    (CHAT, chat(messages=parts({"type": "text"})), "messages[0].content[0]"),
    ("/tokenize", {"model": "echo"}, "prompt"),
    ("/tokenize", {"model": "echo", "prompt": "a", "messages": []}, "prompt"),
    ("/tokenize", {"model": "ids", "prompt": "a"}, "prompt"),
    ("/detokenize", {"model": "echo", "tokens": [-1]}, "tokens"),
    ("/detokenize", {"model": "ids", "tokens": [1]}, "model"),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "sent", "field"), BAD)
def test_a_bad_field_is_a_bad_request_that_names_it(
    echo: Echo, client: httpx.Client, path: str, sent: dict[str, object], field: str, stream: bool
) -> None:
    response = client.post(path, json={"stream": stream, **sent} if stream and "stream_options" not in sent else sent)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    named = {"messages": ("messages", "prompt"), "max_completion_tokens": ("max_tokens",)}.get(field, (field,))
    assert error["param"].startswith(named), error
    assert error["message"].startswith(error["param"])
    assert len(error["message"]) < 400
    assert not echo.unit.live


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"nonsense", b"[]", b"null", b'"a"', b"\xff\xfe", b'{"model": "\xff"}', b'{"model": "\\ud800"}',
     b"[" * 50_000, b'{"a":' * 20_000],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_a_bad_request(client: httpx.Client, content: bytes) -> None:
    response = client.post(COMPLETIONS, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "body"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none_are_refused(client: httpx.Client, number: str) -> None:
    """CVE-2026-54235: a NaN temperature killed the engine that all share; JSON has neither NaN nor infinities."""
    for field in ("temperature", "top_p", "presence_penalty"):
        content = f'{{"model": "echo", "prompt": "a", "{field}": {number}}}'
        response = client.post(COMPLETIONS, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 400


@pytest.mark.parametrize("type_", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_only_what_says_to_be_json_is_read(client: httpx.Client, type_: str | None) -> None:
    """A page of another origin can send these types unasked; JSON it cannot."""
    headers = {} if type_ is None else {"Content-Type": type_}
    response = client.post(COMPLETIONS, content=json.dumps(completion()), headers=headers)
    assert response.status_code == 415
    assert "Content-Type: application/json" in response.json()["error"]["message"]


def test_a_body_that_is_too_large_is_refused_unread(client: httpx.Client) -> None:
    response = client.post(COMPLETIONS, json=completion(prompt="x" * 200_001))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_entity_too_large")
    assert client.post(COMPLETIONS, json=completion(prompt="x" * 99_000)).status_code == 200


def test_a_body_that_comes_too_slowly_is_let_go(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.2)
    host, port = echo.http.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        slow.sendall(b"Content-Length: 9999\r\n\r\n{")
        assert slow.recv(64).startswith(b"HTTP/1.1 408 ")


def test_a_full_queue_says_when_to_come_back(client: httpx.Client) -> None:
    with serve(EchoUnit(refuse_with=RefusedError("the queue is full", 2.5))) as echo:
        for stream in (False, True):
            response = httpx.post(f"{echo.url}{COMPLETIONS}", json=completion(stream=stream))
            assert (response.status_code, response.headers["retry-after"]) == (429, "3")
            assert response.json()["error"]["message"] == "the queue is full"


def events(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]


def test_a_failure_shows_an_id_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    with serve(EchoUnit(fail_at=0)) as echo:
        whole = httpx.post(f"{echo.url}{COMPLETIONS}", json=completion(prompt="my private words"))
        first = httpx.post(f"{echo.url}{COMPLETIONS}", json=completion(stream=True))
    with serve(EchoUnit(fail_at=30)) as echo:
        later = httpx.post(f"{echo.url}{CHAT}", json=chat(stream=True, max_tokens=50))
    assert later.status_code == 200
    assert "[DONE]" not in later.text
    *deltas, last = events(later.text)
    assert sum(len(delta["choices"][0]["delta"]["content"]) for delta in deltas) >= 30
    for error in (whole.json()["error"], events(later.text)[-1]["error"]):
        assert error["type"] == "server_error"
        reference = error["message"].removeprefix("internal error ").partition(":")[0]
        assert any(reference in record.getMessage() for record in caplog.records)
        assert "0xdeadbeef" not in str(error)
    assert last["error"]["code"] == "internal_error"
    assert {whole.status_code, first.status_code} <= {200, 500}
    assert whole.status_code == 500
    assert "private words" not in caplog.text


def test_time_that_runs_out_is_a_504_or_an_event() -> None:
    with serve(EchoUnit(), request_timeout=0.1) as echo:
        whole = httpx.post(f"{echo.url}{COMPLETIONS}", json=completion(max_tokens=90_000))
        assert (whole.status_code, whole.json()["error"]["code"]) == (504, "deadline_exceeded")
        streamed = httpx.post(f"{echo.url}{COMPLETIONS}", json=completion(max_tokens=90_000, stream=True))
        assert events(streamed.text)[-1]["error"]["code"] == "deadline_exceeded"
        echo.eventually(lambda: echo.service.num_requests == 0)


def test_stopping_tells_streams_and_refuses_what_comes() -> None:
    with serve(EchoUnit()) as echo, httpx.Client(base_url=echo.url) as client:
        with client.stream("POST", COMPLETIONS, json=completion(max_tokens=90_000, stream=True)) as running:
            lines = running.iter_lines()
            next(lines)
            echo.run(echo.service.drain(0.0)).result(10)
            last = [line for line in lines if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_stopping"
        refused = client.post(COMPLETIONS, json=completion())
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_stopping")
        assert "retry-after" in refused.headers


def test_one_of_several_prompts_that_is_wrong_refuses_all(echo: Echo, client: httpx.Client) -> None:
    response = client.post(COMPLETIONS, json=completion(prompt=["good", ""], max_tokens=90_000))
    assert response.status_code == 400
    echo.eventually(lambda: echo.service.num_requests == 0 and not echo.unit.live)


def test_a_client_that_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muxjax.serving.frontends.http.events.STALL_SECONDS", 0.3)
    with serve(EchoUnit(step_seconds=0.0)) as echo:
        host, port = echo.http.address.split(":")
        body_ = json.dumps(completion(max_tokens=90_000, n=16, stream=True, logprobs=20)).encode()
        with socket.create_connection((host, int(port))) as deaf:
            head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            deaf.sendall(f"{head}Content-Length: {len(body_)}\r\n\r\n".encode() + body_)
            echo.eventually(lambda: echo.service.num_requests == 1)
            echo.eventually(lambda: echo.service.num_requests == 0, seconds=30)
        assert httpx.post(f"{echo.url}{COMPLETIONS}", json=completion()).status_code == 200


def test_tokens_and_text(client: httpx.Client) -> None:
    assert client.post("/tokenize", json={"model": "echo", "prompt": "héé"}).json() == {
        "tokens": [104, 233, 233],
        "count": 3,
        "max_model_len": 100_000,
    }
    messages = [{"role": "user", "content": "a"}]
    count = client.post("/tokenize", json={"model": "echo", "messages": messages}).json()["count"]
    assert count == len("<user>a")
    assert client.post("/detokenize", json={"model": "echo", "tokens": [104, 233]}).json() == {"prompt": "hé"}

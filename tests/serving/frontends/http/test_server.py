"""The HTTP server over real sockets: what is asked of it before any completion."""

import socket
import time
from collections.abc import Iterator
from importlib.metadata import version

import httpx2 as httpx
import pytest

from muxjax.serving.frontends.access import AccessControl
from muxjax.serving.frontends.http.server import HttpServer
from muxjax.serving.frontends.listen import ListenError
from muxjax.serving.progress import LLMState, Progress
from tests.serving.frontends.echo import ECHO, Echo, EchoUnit, serve


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(EchoUnit()) as running:
        yield running


@pytest.fixture
def client(echo: Echo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=echo.url) as client:
        yield client


def test_the_models_are_those_that_are_ready(echo: Echo, client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [(model["id"], model["max_model_len"]) for model in listed["data"]] == [("echo", 100_000), ("ids", 64)]
    assert all(model["object"] == "model" and model["owned_by"] == "muxjax" for model in listed["data"])
    assert abs(listed["data"][0]["created"] - time.time()) < 3600
    assert client.get("/v1/models/echo").json() == listed["data"][0]


@pytest.mark.parametrize(
    ("path", "status", "code", "words"),
    [
        ("/v1/models/ech", 404, "model_not_found", "did you mean 'echo'?"),
        ("/v1/models/late", 503, "model_not_ready", "model 'late' is not ready (loading)"),
        ("/v1/models/broken", 503, "model_not_ready", "weights/ is truncated"),
        ("/v1/nothing", 404, "not_found", "/openapi.json lists what is"),
    ],
)
def test_what_is_not_there_is_told_as_openai_does(
    client: httpx.Client, path: str, status: int, code: str, words: str
) -> None:
    response = client.get(path)
    assert response.status_code == status
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert words in error["message"]
    assert ("retry-after" in response.headers) == (status == 503)


def test_a_wrong_method_says_which_is_right(client: httpx.Client) -> None:
    response = client.post("/v1/models", json={})
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_allowed"
    assert "GET" in response.headers["allow"]


def test_health_follows_the_models() -> None:
    with serve(EchoUnit()) as echo, httpx.Client(base_url=echo.url) as client:
        for name in ("echo", "ids"):
            echo.update(Progress(name, LLMState.FAILED, error="gone"))
        response = client.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "loading")
        echo.update(Progress("late", LLMState.READY, endpoint=ECHO))
        response = client.get("/health")
        assert response.status_code == 200
        models = {"echo": "failed", "ids": "failed", "late": "ready", "broken": "failed"}
        assert response.json() == {"status": "ok", "models": models}
        echo.run(echo.service.drain(0.0)).result(10)
        response = client.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "stopping")


def test_the_version_is_the_packages(client: httpx.Client) -> None:
    assert client.get("/version").json() == {"version": version("muxjax")}


def test_a_request_id_is_echoed_if_it_can_stand_in_a_log_and_made_up_otherwise(client: httpx.Client) -> None:
    for path in ("/version", "/v1/nothing"):
        assert client.get(path, headers={"X-Request-Id": "trace/1:a_b"}).headers["x-request-id"] == "trace/1:a_b"
    for sent in ("x" * 129, "a\tb", 'a"b', ""):
        made = client.get("/version", headers={"X-Request-Id": sent}).headers["x-request-id"]
        assert made != sent
        assert len(made) == 32


def test_headers_and_request_lines_are_bounded(echo: Echo, client: httpx.Client) -> None:
    assert client.get("/version", headers={"X-Long": "x" * 20_000}).status_code == 400
    assert client.get("/version?" + "x" * 20_000).status_code == 400
    assert client.get("/version", headers={f"X-{i}": "x" for i in range(300)}).status_code == 400
    assert client.get("/version").status_code == 200


def test_a_taken_port_says_so(echo: Echo) -> None:
    async def listen() -> None:
        HttpServer(echo.service, AccessControl(), port=int(echo.http.address.rpartition(":")[2]))

    with pytest.raises(ListenError, match="Address already in use; choose another with --http-port and --host"):
        echo.run(listen()).result(10)


def test_stopping_closes_the_port() -> None:
    with serve(EchoUnit()) as echo:
        host, port = echo.http.address.split(":")
        assert httpx.get(f"{echo.url}/version").status_code == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))

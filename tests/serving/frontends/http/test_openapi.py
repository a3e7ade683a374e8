"""The description of what is served, and schemathesis that sends what it allows and what it forbids."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from muxjax.serving.frontends.http.openapi import OPERATIONS, description
from muxjax.serving.progress import LLMState, Progress
from tests.serving.frontends.echo import ECHO, Echo, EchoUnit, serve

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(EchoUnit(step_seconds=0.0)) as running:
        running.update(Progress("echo", LLMState.READY, endpoint=replace(ECHO, max_context=64)))
        yield running


@pytest.fixture(scope="module")
def api(echo: Echo) -> Any:
    """The description, with the one model to ask."""
    served = httpx.get(f"{echo.url}/openapi.json").json()
    for schema in served["components"]["schemas"].values():
        properties = schema["properties"] if schema["title"].endswith("Request") else {}
        if "model" in properties:
            properties["model"] = {"enum": ["echo"]}
    return schemathesis.openapi.from_dict(served)


def send_many(echo: Echo, api: Any, path: str, method: str, examples: int) -> None:
    """Send what the description allows, and what it does not: all is answered as described, and nothing left behind."""
    operation = api[path][method]
    modes = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    for mode in modes:

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            case.validate_response(case.call(base_url=echo.url, timeout=20), checks=CHECKS)

        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request without parameters
            send()
    echo.eventually(lambda: not echo.unit.live)


each_operation = pytest.mark.parametrize(("method", "path"), [(each.method, each.path) for each in OPERATIONS])


@each_operation
def test_whatever_is_sent_is_answered_as_described(echo: Echo, api: Any, method: str, path: str) -> None:
    send_many(echo, api, path, method, examples=12)


@pytest.mark.slow
@each_operation
def test_whatever_is_sent_for_long_is_answered_as_described(echo: Echo, api: Any, method: str, path: str) -> None:
    send_many(echo, api, path, method, examples=3000)


def test_every_path_is_described_and_every_described_path_is_there(echo: Echo) -> None:
    routes = set()
    application: web.Application = echo.http._runner.app
    for route in application.router.routes():
        path = route.resource.canonical if route.resource is not None else ""
        is_page = path == "/" or path.startswith("/ui")
        if route.method != "HEAD" and not is_page and not path.startswith(("/openapi.json", "/metrics")):
            routes.add((route.method.lower(), path))
    assert {(operation.method, operation.path) for operation in OPERATIONS} == routes


def test_the_description_is_the_one_that_is_served(echo: Echo) -> None:
    assert httpx.get(f"{echo.url}/openapi.json").json() == description()

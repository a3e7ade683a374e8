"""Thousands of damaged bodies, the same ones each time: never a 5xx, never an answer to others, nothing left behind."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pytest

from muxjax.serving.progress import LLMState, Progress
from tests.serving.frontends.echo import ECHO, Echo, EchoUnit, serve

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 17, 2**31, 2**64, -(2**70), 10**400, 0.5, -0.0, 1e-320, 1e308),
    *("", "a", "\0", "\ud800", "🎈" * 50, "NaN", "1", "../..", "<|end|>", "{{ 1 }}", "x" * 5000),
    *([], [[]], [None], [1, "a"], ["a"] * 100, [[1], [2]], [1.5], {}, {"a": 1}, {"1": 1e9}, {"type": "text"}),
    [{"role": "user", "content": "a"}],
]
COMPLETION = {
    **{"model": "echo", "prompt": "abc", "max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1},
    **{"n": 2, "seed": 1, "stop": ["x"], "stop_token_ids": [1], "logit_bias": {"1": 1.0}, "logprobs": 1},
    **{"stream": True, "stream_options": {"include_usage": True}, "echo": False, "min_tokens": 1, "ignore_eos": True},
}
CHAT = {
    **{"model": "echo", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "max_tokens": 3},
    **{"logprobs": True, "top_logprobs": 2, "n": 2, "stream": False, "response_format": {"type": "text"}},
    **{"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "auto"},
    **{"add_generation_prompt": False, "continue_final_message": True},
}
BODIES = [
    ("/v1/completions", COMPLETION),
    ("/v1/chat/completions", CHAT),
    ("/tokenize", {"model": "echo", "prompt": "abc"}),
    ("/detokenize", {"model": "echo", "tokens": [97, 98]}),
]
ALLOWED = {200, 400, 404, 413}


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(EchoUnit(step_seconds=0.0)) as running:
        running.update(Progress("late", LLMState.READY, endpoint=replace(ECHO, name="late")))
        running.update(Progress("echo", LLMState.READY, endpoint=replace(ECHO, max_context=128)))
        yield running


def damaged(random_: random.Random, body: dict[str, Any]) -> bytes:
    """A body with one to three fields replaced, dropped or nested, and sometimes its bytes cut or changed."""
    fields = dict(body)
    for _ in range(random_.randint(1, 3)):
        name = random_.choice([*fields, "unknown"])
        match random_.randrange(4):
            case 0:
                fields.pop(name, None)
            case 1:
                fields[name] = [fields.get(name)]
            case _:
                fields[name] = random_.choice(VALUES)
    data = bytearray(json.dumps(fields).encode())
    match random_.randrange(8):
        case 0:
            del data[random_.randrange(len(data)) :]
        case 1:
            data[random_.randrange(len(data))] = random_.randrange(256)
    return bytes(data)


def campaign(echo: Echo, seeds: range) -> None:
    """Send one damaged body for each seed, while a request of somebody else runs."""
    others = {"model": "late", "prompt": "other", "max_tokens": 90_000, "stream": True}
    with (
        httpx.Client(base_url=echo.url, timeout=20) as client,
        client.stream("POST", "/v1/completions", json=others) as running,
    ):
        lines = running.iter_lines()
        next(lines)
        for seed in seeds:
            random_ = random.Random(seed)
            path, body = random_.choice(BODIES)
            sent = damaged(random_, body)
            answer = client.post(path, content=sent, headers={"Content-Type": "application/json"})
            assert answer.status_code in ALLOWED, (seed, sent, answer.text)
            if answer.status_code != 200:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, (seed, sent)
                assert len(answer.text) < 1500, (seed, sent)
    echo.eventually(lambda: echo.service.num_requests == 0 and not echo.unit.live)


def test_damaged_bodies_harm_nobody(echo: Echo) -> None:
    campaign(echo, range(2000))


@pytest.mark.slow
def test_damaged_bodies_harm_nobody_for_long(echo: Echo) -> None:
    campaign(echo, range(2000, 202_000))

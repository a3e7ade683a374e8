"""The official Python client, unmodified, against a running server."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.serving.frontends.echo import Echo, EchoUnit, serve


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(EchoUnit()) as running:
        yield running


@pytest.fixture(scope="module")
def client(echo: Echo) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{echo.url}/v1", api_key="none", max_retries=0) as client:
        yield client


HI: Any = [{"role": "user", "content": "hi"}]  # which the echo's template writes as <user>hi


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["echo", "ids"]
    assert client.models.retrieve("echo").max_model_len == 100_000


def test_a_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="echo", prompt="héllo 🎈", max_tokens=9)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    (choice,) = answer.choices
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (0, "héllo 🎈hé", "length", None)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 9, 16)


def test_a_completion_without_max_tokens_has_sixteen(client: openai.OpenAI) -> None:
    assert client.completions.create(model="echo", prompt="ab").choices[0].text == "ab" * 8


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("ab", ["aba"]),
        (["ab", "c"], ["aba", "ccc"]),
        ([97, 98], ["aba"]),
        ([[97, 98], [99]], ["aba", "ccc"]),
    ],
)
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_every_form_of_prompt(client: openai.OpenAI, prompt: Any, texts: list[str], n: int, stream: bool) -> None:
    answer = client.completions.create(model="echo", prompt=prompt, max_tokens=3, n=n, stream=stream)
    got = [""] * len(texts) * n
    for part in answer if stream else [answer]:
        for choice in part.choices:
            got[choice.index] += choice.text
    assert got == [text for text in texts for _ in range(n)]


def test_a_streamed_completion(client: openai.OpenAI) -> None:
    parts = list(client.completions.create(model="echo", prompt="abc", max_tokens=30, stream=True))
    assert "".join(part.choices[0].text for part in parts) == "abc" * 10
    assert [part.choices[0].finish_reason for part in parts if part.choices[0].finish_reason] == ["length"]
    assert len({part.id for part in parts}) == 1
    assert all(part.usage is None for part in parts)


def test_usage_of_a_stream(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    *parts, last = client.chat.completions.create(
        model="echo", messages=HI, max_tokens=20, n=2, stream=True, stream_options=options
    )
    assert all(part.usage is None for part in parts)
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (8, 40)
    options = {"continuous_usage_stats": True}
    parts = list(
        client.completions.create(model="echo", prompt="a", max_tokens=20, stream=True, stream_options=options)
    )
    counts = [part.usage.completion_tokens for part in parts if part.usage is not None]
    assert len(counts) == len(parts)
    assert counts == sorted(counts)
    assert counts[-1] == 20


def test_a_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="echo", messages=HI, max_completion_tokens=8, n=2)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert [(choice.index, choice.message.role, choice.message.content) for choice in answer.choices] == [
        (0, "assistant", "<user>hi"),
        (1, "assistant", "<user>hi"),
    ]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_a_streamed_chat(client: openai.OpenAI) -> None:
    parts = list(client.chat.completions.create(model="echo", messages=HI, max_tokens=16, stream=True))
    assert parts[0].object == "chat.completion.chunk"
    assert [part.choices[0].delta.role for part in parts] == ["assistant"] + [None] * (len(parts) - 1)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "<user>hi" * 2
    assert parts[-1].choices[0].finish_reason == "length"


def test_contents_come_as_text_or_as_parts_of_text(client: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "developer", "content": "be"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    answer = client.chat.completions.create(model="echo", messages=messages, max_tokens=19)
    assert answer.choices[0].message.content == "<system>be<user>a\nb"


def test_logprobs_of_a_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="echo", prompt="xé", max_tokens=3, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["x", "é", "x"]
    assert logprobs.token_logprobs == [-0.5] * 3
    assert logprobs.text_offset == [0, 1, 2]
    assert logprobs.top_logprobs is not None
    assert logprobs.top_logprobs[1] == {"\0": -1.0, "\1": -2.0, "é": -0.5}


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_a_chat(client: openai.OpenAI, stream: bool) -> None:
    answer = client.chat.completions.create(
        model="echo", messages=HI, max_tokens=3, logprobs=True, top_logprobs=1, stream=stream
    )
    entries = [entry for part in (answer if stream else [answer]) for entry in part.choices[0].logprobs.content]
    assert [entry.token for entry in entries] == ["<", "u", "s"]
    assert [entry.bytes for entry in entries] == [[60], [117], [115]]
    assert [(top.token, top.logprob) for top in entries[0].top_logprobs] == [("\0", -1.0)]
    plain = client.chat.completions.create(model="echo", messages=HI, max_tokens=3, logprobs=True)
    assert plain.choices[0].logprobs.content[0].top_logprobs == []


def test_echo_puts_the_prompt_first(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="echo", prompt=["ab", "c"], max_tokens=2, n=2, echo=True)
    assert [choice.text for choice in answer.choices] == ["abab", "abab", "ccc", "ccc"]
    parts = client.completions.create(model="echo", prompt=[97, 98], max_tokens=20, echo=True, stream=True)
    assert "".join(part.choices[0].text for part in parts) == "ab" * 11


def test_a_model_without_a_tokenizer_answers_in_token_ids(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="ids", prompt=[65, 66], max_tokens=3, logprobs=1)
    assert answer.choices[0].token_ids == [65, 66, 65]
    assert answer.choices[0].logprobs.tokens == ["token_id:65", "token_id:66", "token_id:65"]
    asked = client.completions.create(model="echo", prompt="a", max_tokens=2, extra_body={"return_token_ids": True})
    assert asked.choices[0].token_ids == [97, 97]
    assert not hasattr(client.completions.create(model="echo", prompt="a").choices[0], "token_ids")


def test_every_sampling_parameter_arrives(echo: Echo, client: openai.OpenAI) -> None:
    seen = []
    submit = echo.unit.submit
    echo.unit.submit = lambda request, deliver: (seen.append(request.sampling), submit(request, deliver))[1]
    extra = {
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "min_tokens": 1,
        "stop_token_ids": [7],
        "ignore_eos": True,
    }
    try:
        client.chat.completions.create(
            model="echo",
            messages=HI,
            max_completion_tokens=2,
            max_tokens=9,
            temperature=0.5,
            top_p=0.9,
            presence_penalty=0.2,
            frequency_penalty=-0.3,
            logit_bias={"5": -1},
            stop=["x", "yy"],
            seed=-1,
            n=1,
            user="somebody",
            extra_body={**extra, "nobody_knows_this": 1},
        )
        client.completions.create(model="echo", prompt="a", extra_body={"top_k": -1})
    finally:
        echo.unit.submit = submit
    sampling = seen[0]
    assert {name: getattr(sampling, name) for name in extra} == {**extra, "stop_token_ids": (7,)}
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.5, 0.9, 2)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.2, -0.3)
    assert (sampling.logit_bias, sampling.stop, sampling.seed) == ({5: -1.0}, ("x", "yy"), 2**64 - 1)
    assert seen[1].top_k == 0


def test_many_asynchronous_streams_at_once(echo: Echo) -> None:
    async def answer(client: openai.AsyncOpenAI, word: str) -> str:
        parts = await client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": word}], max_tokens=200, stream=True
        )
        return "".join([part.choices[0].delta.content or "" async for part in parts])

    async def answers() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{echo.url}/v1", api_key="none") as client:
            return await asyncio.gather(*(answer(client, f"word {index}") for index in range(40)))

    for index, text in enumerate(asyncio.run(answers())):
        assert text == (f"<user>word {index}" * 40)[:200]


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model="eco", prompt="a")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model="echo", prompt="a", temperature=-1)
    assert (wrong.value.param, wrong.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.InternalServerError) as loading:
        client.completions.create(model="late", prompt="a")
    assert (loading.value.status_code, loading.value.code) == (503, "model_not_ready")


def test_leaving_a_stream_aborts_its_request(echo: Echo, client: openai.OpenAI) -> None:
    before = len(echo.unit.aborted)
    with client.completions.create(model="echo", prompt="ab", max_tokens=90_000, stream=True) as parts:
        next(iter(parts))
        assert echo.service.num_requests == 1
    echo.eventually(lambda: echo.service.num_requests == 0 and len(echo.unit.aborted) == before + 1)

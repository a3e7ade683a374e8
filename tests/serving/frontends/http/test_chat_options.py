"""Tools, and where a conversation's text ends: what a chat template gets of a request, and what is refused."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import openai
import pytest

from muxjax.serving.progress import LLMState, Progress
from tests.serving.frontends.echo import ECHO, CodePoints, EchoUnit, serve

HI: Any = [{"role": "user", "content": "hi"}]
TOOLS: Any = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
ADD = '[{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]'


def nested(depth: int) -> Any:
    return {} if depth == 0 else {"properties": nested(depth - 1)}


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with (
        serve(EchoUnit(step_seconds=0.0)) as echo,
        openai.OpenAI(base_url=f"{echo.url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def rendered(client: openai.OpenAI, messages: Any = HI, **options: Any) -> str:
    """The prompt, which the echo repeats."""
    answer = client.chat.completions.create(model="echo", messages=messages, max_tokens=1, **options)
    length = answer.usage.prompt_tokens
    again = client.chat.completions.create(model="echo", messages=messages, max_tokens=length, **options)
    return again.choices[0].message.content


def test_tools_are_told_to_the_model_unless_they_are_not_to_be_called(client: openai.OpenAI) -> None:
    assert rendered(client, tools=TOOLS) == f"{ADD}<user>hi"
    assert rendered(client, tools=TOOLS, tool_choice="auto") == f"{ADD}<user>hi"
    assert rendered(client, tools=TOOLS, tool_choice="none") == "<user>hi"
    assert rendered(client, tools=[], tool_choice="auto") == "<user>hi"


def test_the_templates_own_options_reach_it(client: openai.OpenAI) -> None:
    assert rendered(client, extra_body={"chat_template_kwargs": {"enable_thinking": False}}) == "false<user>hi"
    assert rendered(client, extra_body={"chat_template_kwargs": {}}) == "<user>hi"
    body = {"model": "echo", "messages": HI, "chat_template_kwargs": {"enable_thinking": False}}
    tokens = client.post(str(client.base_url.join("/tokenize")), body=body, cast_to=dict[str, Any])["tokens"]
    assert "".join(map(chr, tokens)) == "false<user>hi"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_what_the_assistant_thought_reaches_the_template(client: openai.OpenAI, field: str) -> None:
    messages: Any = [*HI, {"role": "assistant", "content": "4", field: "2 + 2"}]
    assert rendered(client, messages) == "<user>hi<assistant>4(2 + 2)"


def test_calls_and_their_results_are_messages(client: openai.OpenAI) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages: Any = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "3"},
    ]
    assert rendered(client, messages) == '<user>hi<assistant>{"name": "add", "arguments": {"a": 1}}<tool>3'


class Waiting(CodePoints):
    """A tokenizer whose chat template works until it is let go."""

    def __init__(self) -> None:
        self.begun, self.free = threading.Event(), threading.Event()

    def apply_chat_template(self, messages: Any, **options: Any) -> list[int]:
        self.begun.set()
        assert self.free.wait(30)
        return super().apply_chat_template(messages, **options)


def test_a_slow_template_keeps_nobody_else_waiting() -> None:
    tokenizer = Waiting()
    with serve(EchoUnit(step_seconds=0.0)) as echo, ThreadPoolExecutor() as threads:
        echo.update(Progress("echo", LLMState.READY, endpoint=replace(ECHO, tokenizer=tokenizer)))
        with openai.OpenAI(base_url=f"{echo.url}/v1", api_key="none", max_retries=0, timeout=20) as client:
            slow = threads.submit(rendered, client)
            assert tokenizer.begun.wait(20)
            try:
                answer = client.completions.create(model="echo", prompt="ab", max_tokens=2)
            finally:
                tokenizer.free.set()
            assert answer.choices[0].text == "ab"
            assert slow.result() == "<user>hi"


def test_the_last_message_can_be_continued(client: openai.OpenAI) -> None:
    messages: Any = [*HI, {"role": "assistant", "content": "Sure: "}]
    extra = {"continue_final_message": True, "add_generation_prompt": False}
    assert rendered(client, messages, extra_body=extra) == "<user>hi<assistant>Sure: "
    both = {"continue_final_message": True, "add_generation_prompt": True}
    with pytest.raises(openai.BadRequestError, match="cannot both be true"):
        rendered(client, messages, extra_body=both)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "add"}}}, "tool_choice"),
        ({"tools": TOOLS * 129}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": nested(40)}}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": nested(800)}}]}, "tools[0].function"),
        ({"tools": "add"}, "tools"),
        ({"extra_body": {"chat_template_kwargs": {"add_generation_prompt": 1}}}, "chat_template_kwargs"),
        ({"extra_body": {"chat_template_kwargs": {str(n): n for n in range(65)}}}, "chat_template_kwargs"),
        ({"extra_body": {"chat_template_kwargs": nested(40)}}, "chat_template_kwargs"),
        ({"extra_body": {"chat_template_kwargs": ["enable_thinking"]}}, "chat_template_kwargs"),
    ],
)
def test_what_cannot_be_told_is_refused_by_its_name(client: openai.OpenAI, options: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="echo", messages=HI, **options)
    assert refused.value.param == param


@pytest.mark.parametrize("arguments", ["", "{", "[]", '{"a": NaN}', '{"a": ' + "[" * 50 + "]" * 50 + "}"])
def test_arguments_of_earlier_calls_are_objects(client: openai.OpenAI, arguments: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": arguments}}
    with pytest.raises(openai.BadRequestError) as refused:
        rendered(client, [*HI, {"role": "assistant", "tool_calls": [call]}])
    assert refused.value.param == "messages[1].tool_calls[0].function.arguments"

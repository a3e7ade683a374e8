"""The messages and tools that clients send, and what a chat template gets of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from muxjax.serving import checks
from muxjax.serving.endpoint import Chat
from muxjax.serving.errors import InvalidRequest
from muxjax.serving.frontends.template_options import template_options

MAX_MESSAGES = 4096
MAX_TOOLS = 128

_ARGUMENTS = msgspec.json.Decoder(dict[str, Any])


class TextPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a message; only those of type "text" are taken, and nothing is fetched."""

    type: str
    text: str | None = None


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """What was called; `arguments` is a JSON object, written out."""

    name: str
    arguments: str = "{}"


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call in an earlier message of the assistant."""

    function: FunctionCall
    id: str | None = None
    type: Literal["function"] = "function"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation; a tool's answer has the role "tool".

    `reasoning_content` is what the assistant thought before it answered; newer clients call it `reasoning`.
    """

    role: str
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the LLM is told about: its "name", "description" and "parameters", a JSON schema."""

    function: dict[str, Any]
    type: Literal["function"] = "function"


class ChatFields(Protocol):
    """What a body that holds a conversation says of it."""

    @property
    def tools(self) -> Sequence[Tool] | None:
        """The tools that the LLM may call."""
        ...

    @property
    def chat_template_kwargs(self) -> Mapping[str, Any] | None:
        """What else the LLM's template reads."""
        ...

    @property
    def add_generation_prompt(self) -> bool | None:
        """Whether to end with what comes before an answer; None leaves it open."""
        ...

    @property
    def continue_final_message(self) -> bool | None:
        """Whether the last message is gone on with."""
        ...


def conversation(messages: Sequence[Message], fields: ChatFields) -> Chat:
    """The conversation, each content as one text. Raises InvalidRequest."""
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequest("messages", f"has {len(messages)} entries; at most {MAX_MESSAGES} are taken")
    if fields.continue_final_message and fields.add_generation_prompt:
        raise InvalidRequest(
            "continue_final_message", "and add_generation_prompt cannot both be true: send one of them"
        )
    generation_prompt = fields.add_generation_prompt is not False and not fields.continue_final_message
    return Chat(
        [_message(f"messages[{index}]", message) for index, message in enumerate(messages)],
        tools=_tools(fields.tools),
        template_options=template_options(fields.chat_template_kwargs),
        add_generation_prompt=generation_prompt,
        continue_final_message=bool(fields.continue_final_message),
    )


def _message(field: str, message: Message) -> Mapping[str, Any]:
    role = "system" if message.role == "developer" else message.role  # what OpenAI calls it since 2024
    extras: dict[str, Any] = {
        "name": message.name,
        "tool_call_id": message.tool_call_id,
        "reasoning_content": message.reasoning if message.reasoning_content is None else message.reasoning_content,
    }
    if message.tool_calls:
        calls = enumerate(message.tool_calls)
        extras["tool_calls"] = [_call(f"{field}.tool_calls[{index}]", call) for index, call in calls]
    content = message.content
    if content is None:
        if not message.tool_calls:
            raise InvalidRequest(f"{field}.content", "is missing: send text")
        content = ""
    if not isinstance(content, str):
        content = "\n".join(_text(f"{field}.content[{place}]", part) for place, part in enumerate(content))
    return {"role": role, "content": content, **{name: value for name, value in extras.items() if value is not None}}


def _text(field: str, part: TextPart) -> str:
    if part.type != "text" or part.text is None:
        raise InvalidRequest(field, 'must be {"type": "text", "text": ...}: only text is taken, and nothing fetched')
    return part.text


def _call(field: str, call: ToolCall) -> Mapping[str, Any]:
    """As templates want it: with the arguments as an object."""
    field += ".function.arguments"
    try:
        arguments = _ARGUMENTS.decode(call.function.arguments)
    except (msgspec.MsgspecError, RecursionError):
        raise InvalidRequest(field, f"is no JSON object: {checks.shown(call.function.arguments)}") from None
    checks.depth(field, arguments)
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def _tools(tools: Sequence[Tool] | None) -> Sequence[Mapping[str, Any]] | None:
    if not tools:
        return None
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest("tools", f"has {len(tools)} entries; at most {MAX_TOOLS} are taken")
    for index, tool in enumerate(tools):
        if not isinstance(tool.function.get("name"), str):
            raise InvalidRequest(f"tools[{index}].function.name", "must be a string")
        checks.depth(f"tools[{index}].function", tool.function)
    return [{"type": tool.type, "function": tool.function} for tool in tools]

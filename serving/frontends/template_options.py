"""Variables that a client sets for an LLM's chat template, such as `enable_thinking`."""

from collections.abc import Mapping
from typing import Any

from muxjax.serving import checks
from muxjax.serving.errors import InvalidRequest

FIELD = "chat_template_kwargs"
MAX_OPTIONS = 64
_RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template"})


def template_options(sent: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The variables, few and flat, and none that stands for another field of the request. Raises InvalidRequest."""
    if not sent:
        return {}
    if len(sent) > MAX_OPTIONS:
        raise InvalidRequest(FIELD, f"has {len(sent)} entries; at most {MAX_OPTIONS} are taken")
    if reserved := sorted(_RESERVED & sent.keys()):
        raise InvalidRequest(FIELD, f"must not hold {reserved[0]}: it is no option of a template")
    checks.depth(FIELD, sent)
    return sent

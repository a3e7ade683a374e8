"""What a client gets of a stream, and when, if the unit is faster than it reads."""

import asyncio

import pytest

from muxjax.serving.frontends.stream import RequestFailed, Stream
from muxjax.serving.request import FinishReason, Output, Request, SamplingParams


def output(token: int, reason: FinishReason | None = None) -> Output:
    return Output("r", 0, (token,), chr(97 + token), finish_reason=reason)


@pytest.mark.parametrize("reason", [FinishReason.ERROR, FinishReason.LENGTH])
def test_what_comes_while_a_message_is_written_is_given_before_the_end(reason: FinishReason) -> None:
    async def read() -> tuple[list[int], bool]:
        stream = Stream(Request("r", "llm", (1,), SamplingParams()))
        stream.push(output(0))
        tokens: list[int] = []
        try:
            async for outputs in stream:
                tokens += [token for one in outputs for token in one.token_ids]
                if tokens == [0]:  # the unit goes on while the client is written to
                    stream.push(output(1))
                    stream.push(output(2, reason))
        except RequestFailed:
            return tokens, True
        return tokens, False

    tokens, failed = asyncio.run(read())
    assert tokens == [0, 1, 2]
    assert failed is (reason is FinishReason.ERROR)

"""One HTTP request's completions, of one prompt or of several, as one stream."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from muxjax.serving.endpoint import Prompt
from muxjax.serving.frontends.access import Caller
from muxjax.serving.frontends.http.answers import Usage
from muxjax.serving.frontends.service import Service
from muxjax.serving.frontends.stream import Stream, join
from muxjax.serving.request import Output


class Generation:
    """The streams of all prompts. Its choices are numbered through: the n of the first prompt, those of the second...

    Attributes:
        num_choices: the completions of all prompts.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._n = streams[0].request.sampling.n
        self._prompt_tokens = sum(len(stream.request.prompt_token_ids) for stream in streams)
        self._completion_tokens = 0
        self.num_choices = self._n * len(streams)

    def usage(self) -> Usage:
        """Of what was given so far."""
        return Usage(self._prompt_tokens, self._completion_tokens, self._prompt_tokens + self._completion_tokens)

    def prompt_of(self, choice: int) -> tuple[int, ...]:
        """The token ids that a choice goes on from."""
        return self._streams[choice // self._n].request.prompt_token_ids

    async def __aiter__(self) -> AsyncIterator[list[tuple[int, Output]]]:
        """What is new, as it comes, with the choice that each output belongs to. Raises what `Stream` does."""
        async with contextlib.aclosing(_merge(self._streams)) as merged:
            async for prompt, outputs in merged:
                self._completion_tokens += sum(len(output.token_ids) for output in outputs)
                yield [(prompt * self._n + output.index, output) for output in outputs]

    async def collect(self) -> list[Output]:
        """Each choice as a whole, when all are finished. Raises what `Stream` does."""
        pieces: list[list[Output]] = [[] for _ in range(self.num_choices)]
        async for outputs in self:
            for choice, output in outputs:
                pieces[choice].append(output)
        return [join(outputs) for outputs in pieces]


@contextlib.asynccontextmanager
async def generate(
    service: Service, model: str, prompts: Sequence[Prompt], sampling: Mapping[str, object], caller: Caller
) -> AsyncIterator[Generation]:
    """The completions of all prompts: all are taken, or none. Raises what `Service.generate` does."""
    async with contextlib.AsyncExitStack() as stack:
        yield Generation(
            [
                await stack.enter_async_context(service.generate(model, prompt, sampling, caller=caller))
                for prompt in prompts
            ]
        )


async def _merge(streams: Sequence[Stream]) -> AsyncGenerator[tuple[int, list[Output]]]:
    """The outputs of several streams as they come, with the stream that they are of."""
    if len(streams) == 1:
        async for outputs in streams[0]:
            yield 0, outputs
        return
    iterators = [aiter(stream) for stream in streams]
    waiting = {asyncio.ensure_future(anext(iterator, None)): index for index, iterator in enumerate(iterators)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                index, news = waiting.pop(task), task.result()
                if news is not None:
                    yield index, news
                    waiting[asyncio.ensure_future(anext(iterators[index], None))] = index
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

"""Requests by the thousand, over gRPC."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub

TOKENS = 4


@dataclass(frozen=True)
class Outcome:
    """How one request went."""

    seconds: float
    tokens: int
    code: grpc.StatusCode
    has_hint: bool = False


async def ask(stub: InferenceStub, model: str, max_tokens: int) -> Outcome:
    started, tokens = time.monotonic(), 0
    sampling = pb.SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
    request = pb.GenerateRequest(model=model, token_ids=pb.TokenIds(ids=[1, 2, 3]), sampling=sampling)
    try:
        async for message in stub.Generate(request, timeout=120):
            tokens += len(message.token_ids)
    except grpc.aio.AioRpcError as error:
        hint = "retry-after" in dict(error.trailing_metadata())
        return Outcome(time.monotonic() - started, tokens, error.code(), hint)
    return Outcome(time.monotonic() - started, tokens, grpc.StatusCode.OK)


async def send(
    address: str,
    count: int,
    rate: float | None = None,
    *,
    models: Sequence[str] = ("small", "wide"),
    max_tokens: int = TOKENS,
) -> list[Outcome]:
    """So many requests to the LLMs in turn: all at once, or at a rate, whatever becomes of them."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = InferenceStub(channel)
        started, tasks = time.monotonic(), []
        for index in range(count):
            if rate is not None:
                await asyncio.sleep(max(0.0, started + index / rate - time.monotonic()))
            tasks.append(asyncio.ensure_future(ask(stub, models[index % len(models)], max_tokens)))
        return await asyncio.gather(*tasks)


def percentile(outcomes: Sequence[Outcome], share: float) -> float:
    return sorted(outcome.seconds for outcome in outcomes)[int(share * (len(outcomes) - 1))]

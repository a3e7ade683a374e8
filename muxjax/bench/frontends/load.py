"""`python -m muxjax.bench.frontends.load PROTOCOL ADDRESS STREAMS TOKENS`: reads streams, and says when what came.

Messages are only noted with their time while they come, and read afterwards, so that the load does not slow them down.
"""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import grpc

from muxjax.bench.frontends.unit import MODEL
from muxjax.bench.result import percentiles
from muxjax.serving.frontends.grpc import inference_pb2 as native
from muxjax.serving.frontends.oip import open_inference_pb2 as oip

type Arrival = tuple[int, bytes]

_STAMP = re.compile(rb"\d{12,}(?= )")  # what `FreeUnit` writes for a token; other digits are followed by no space


async def _native(address: str, tokens: int) -> list[Arrival]:
    request = native.GenerateRequest(model=MODEL, text="a", sampling=native.SamplingParams(max_tokens=tokens))
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_stream("/muxjax.v1.Inference/Generate", None, None)(request.SerializeToString())
        return [(time.monotonic_ns(), message) async for message in call]


async def _open_inference(address: str, tokens: int) -> list[Arrival]:
    def tensor(name: str, datatype: str, **contents: Any) -> oip.ModelInferRequest.InferInputTensor:
        elements = oip.InferTensorContents(**contents)
        return oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=[1], contents=elements)

    request = oip.ModelInferRequest(
        model_name=MODEL,
        inputs=[
            tensor("text_input", "BYTES", bytes_contents=[b"a"]),
            tensor("max_tokens", "INT32", int_contents=[tokens]),
            tensor("stream", "BOOL", bool_contents=[True]),
        ],
    )
    async with grpc.aio.insecure_channel(address) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer", None, None)
        call = stream(iter([request.SerializeToString()]))
        return [(time.monotonic_ns(), message) async for message in call]


async def _http(address: str, tokens: int) -> list[Arrival]:
    body = {"model": MODEL, "prompt": "a", "max_tokens": tokens, "stream": True}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{address}/v1/completions", json=body) as response,
    ):
        return [(time.monotonic_ns(), chunk) async for chunk in response.content.iter_any()]


CLIENTS: Mapping[str, Callable[[str, int], Awaitable[list[Arrival]]]] = {
    "native": _native,
    "open_inference": _open_inference,
    "http": _http,
}


async def load(protocol: str, address: str, streams: int, tokens: int) -> dict[str, Any]:
    """What came of so many streams at once: tokens/s between the first and the last arrival, and how late they were."""
    arrivals = await asyncio.gather(*(CLIENTS[protocol](address, tokens) for _ in range(streams)))
    latencies, first, last, messages = [], 1 << 63, 0, 0
    for stream in arrivals:
        for arrived, message in stream:
            stamps = [int(stamp) for stamp in _STAMP.findall(message)]
            latencies += [(arrived - stamp) / 1e9 for stamp in stamps]
            messages += bool(stamps)
            first, last = min(first, arrived), max(last, arrived)
    return {
        "tokens": len(latencies),
        "tokens_per_second": len(latencies) / ((last - first) / 1e9),
        "tokens_per_message": len(latencies) / messages,
        "latency_ms": percentiles(latencies),
    }


if __name__ == "__main__":
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores - {min(cores)} or cores)
    print(json.dumps(asyncio.run(load(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))))

"""tritonclient's asyncio half: one stream that ends, one that is cancelled, and a request that runs out of time."""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException


def inputs(text: str, max_tokens: int, *, stream: bool) -> list[triton.InferInput]:
    made = []
    for name, value, datatype in (
        ("text_input", np.array([text.encode()], dtype=np.object_), "BYTES"),
        ("max_tokens", np.array([max_tokens], dtype=np.int32), "INT32"),
        ("stream", np.array([stream]), "BOOL"),
    ):
        made.append(triton.InferInput(name, [1], datatype))
        made[-1].set_data_from_numpy(value)
    return made


async def main() -> None:
    async with triton.InferenceServerClient(sys.argv[1]) as client:

        async def requests(max_tokens: int):
            yield {"model_name": "echo", "inputs": inputs("abc", max_tokens, stream=True), "request_id": "1"}

        text = ""
        async for result, error in client.stream_infer(requests(5)):
            assert error is None, error
            text += result.as_numpy("text_output")[0].decode()
        endless = client.stream_infer(requests(90_000))
        async for _ in endless:
            endless.cancel()
            break
        whole = await client.infer("echo", inputs("abc", 4, stream=False))
        try:
            await client.infer("echo", inputs("abc", 90_000, stream=False), client_timeout=0.3)
            late = ""
        except InferenceServerException as error:
            late = error.status()
        print(json.dumps({"text": text, "whole": whole.as_numpy("text_output")[0].decode(), "late": late}))


asyncio.run(main())

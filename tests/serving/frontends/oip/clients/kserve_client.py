"""KServe's client, which imports tritonclient's rival definition of the protocol."""

import asyncio
import json
import sys

from kserve import InferenceGRPCClient, InferInput, InferRequest


async def main() -> None:
    client = InferenceGRPCClient(url=sys.argv[1])
    inputs = [InferInput("text_input", [1], "BYTES", data=["abc"]), InferInput("max_tokens", [1], "INT32", data=[4])]
    answer = await client.infer(InferRequest(model_name="echo", infer_inputs=inputs))
    found = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model": await client.is_model_ready("echo"),
        "text": answer.outputs[0].as_numpy()[0].decode(),
    }
    await client.close()
    print(json.dumps(found))


asyncio.run(main())

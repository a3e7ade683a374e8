"""A real model's sum, in both dialects of one client."""

import json
import sys

import numpy as np
import tritonclient.grpc as triton


def tensor(name: str, value: object, dtype: object, datatype: str) -> triton.InferInput:
    made = triton.InferInput(name, [1], datatype)
    made.set_data_from_numpy(np.array([value], dtype=dtype))
    return made


client = triton.InferenceServerClient(sys.argv[1])
text = tensor("text_input", b"12+30=", np.object_, "BYTES")
options = tensor("sampling_parameters", b'{"temperature": "0", "max_tokens": "8"}', np.object_, "BYTES")
typed = [tensor("temperature", 0, np.float32, "FP32"), tensor("max_tokens", 8, np.int32, "INT32")]
answers = [client.infer("arithmetic", [text, *more]).as_numpy("text_output")[0] for more in ([options], typed)]
print(json.dumps([answer.decode() for answer in answers]))

"""tritonclient's threads: the server asked about itself, then a stream of requests to two models, one of them bad."""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton


def tensor(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def prompt(text: str, **sampling: object) -> list[triton.InferInput]:
    return [
        tensor("text_input", np.array([text.encode()], dtype=np.object_), "BYTES"),
        tensor("stream", np.array([True]), "BOOL"),
        tensor("sampling_parameters", np.array([json.dumps(sampling).encode()], dtype=np.object_), "BYTES"),
    ]


client = triton.InferenceServerClient(sys.argv[1])
about = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model": client.is_model_ready("echo"),
    "unknown": client.is_model_ready("nobody"),
    "name": client.get_server_metadata().name,
    "inputs": len(client.get_model_metadata("echo").inputs),
    "decoupled": client.get_model_config("echo").config.model_transaction_policy.decoupled,
    "index": len(client.get_model_repository_index().models),
    "regions": len(client.get_system_shared_memory_status().regions),
}

answers: queue.Queue = queue.Queue()
client.start_stream(lambda result, error: answers.put((result, error)))
client.async_stream_infer("echo", prompt("héllo", max_tokens="7"), request_id="text")
client.async_stream_infer("echo", prompt("abc", max_tokens=0), request_id="bad")
ids = [tensor("input_ids", np.array([[5, 6]], dtype=np.int32), "INT32")]
ids += [tensor("max_tokens", np.array([[3]], dtype=np.int32), "INT32")]
client.async_stream_infer("ids", ids, request_id="ids", enable_empty_final_response=True)
texts, tokens, errors, open_requests = "", [], [], 3
while open_requests:
    result, error = answers.get(timeout=20)
    if error is not None:
        errors.append(error.message())
        open_requests -= 1
        continue
    response = result.get_response()
    if response.id == "text":
        texts += result.as_numpy("text_output")[0].decode()
    elif response.outputs:
        tokens += result.as_numpy("output_ids").tolist()
    open_requests -= response.parameters["triton_final_response"].bool_param

client.async_stream_infer("echo", prompt("abc", max_tokens=90_000), request_id="endless")
answers.get(timeout=20)
client.stop_stream(cancel_requests=True)
print(json.dumps({"about": about, "text": texts, "tokens": tokens, "errors": errors}))

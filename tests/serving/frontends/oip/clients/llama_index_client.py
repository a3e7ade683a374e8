"""LlamaIndex's LLM for Triton, in TensorRT-LLM's dialect."""

import json
import sys

from llama_index.llms.nvidia_triton import NvidiaTriton

llm = NvidiaTriton(server_url=sys.argv[1], model_name="echo", tokens=8)
deltas = [part.delta for part in llm.stream_complete("abcdefghij")]
print(json.dumps({"text": llm.complete("abcdefghij").text, "deltas": deltas}))

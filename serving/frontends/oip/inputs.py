"""What a model takes and gives in this protocol: Triton's vLLM backend's tensors, and TensorRT-LLM's."""

from collections.abc import Mapping
from dataclasses import dataclass

from muxjax.serving.checks import shown
from muxjax.serving.errors import InvalidRequest, nearest
from muxjax.serving.frontends.oip.tensors import Value

MAX_ELEMENTS = 64
"""Of an input that is a list; token ids are bounded by the model's context."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output.

    Attributes:
        name: what clients call it.
        datatype: as it is announced; inputs may come as any datatype of the same kind.
        is_list: any number of elements; otherwise one, in whatever shape.
    """

    name: str
    datatype: str
    is_list: bool = False


_VLLM = (
    Tensor("text_input", "BYTES"),
    Tensor("stream", "BOOL"),
    Tensor("sampling_parameters", "BYTES"),
    Tensor("exclude_input_in_output", "BOOL"),
    Tensor("return_finish_reason", "BOOL"),
    Tensor("return_logprobs", "BOOL"),
    Tensor("return_num_input_tokens", "BOOL"),
    Tensor("return_num_output_tokens", "BOOL"),
)
_TENSORRT_LLM = (
    Tensor("input_ids", "INT32", is_list=True),
    Tensor("input_lengths", "INT32"),
    Tensor("request_output_len", "INT32"),
    Tensor("max_tokens", "INT32"),
    Tensor("min_length", "INT32"),
    Tensor("min_tokens", "INT32"),
    Tensor("stop_words", "BYTES", is_list=True),
    Tensor("bad_words", "BYTES", is_list=True),
    Tensor("top_k", "INT32"),
    Tensor("top_p", "FP32"),
    Tensor("min_p", "FP32"),
    Tensor("temperature", "FP32"),
    Tensor("repetition_penalty", "FP32"),
    Tensor("presence_penalty", "FP32"),
    Tensor("frequency_penalty", "FP32"),
    Tensor("length_penalty", "FP32"),
    Tensor("beam_width", "INT32"),
    Tensor("seed", "UINT64"),
    Tensor("random_seed", "UINT64"),
    Tensor("end_id", "INT32"),
    Tensor("pad_id", "INT32"),
    Tensor("return_log_probs", "BOOL"),
    Tensor("stop", "BOOL"),
)
INPUTS: Mapping[str, Tensor] = {tensor.name: tensor for tensor in (*_VLLM, *_TENSORRT_LLM)}
OUTPUTS: Mapping[str, Tensor] = {
    tensor.name: tensor
    for tensor in (
        Tensor("text_output", "BYTES", is_list=True),
        Tensor("finish_reason", "BYTES", is_list=True),
        Tensor("logprobs", "BYTES", is_list=True),
        Tensor("num_input_tokens", "UINT32"),
        Tensor("num_output_tokens", "UINT32", is_list=True),
        Tensor("output_ids", "INT32", is_list=True),
        Tensor("output_log_probs", "FP32", is_list=True),
    )
}

_KINDS: Mapping[str, type[Value]] = {"BYTES": str, "BOOL": bool, "FP32": float, "INT32": int, "UINT64": int}


def check_input(name: str, values: list[Value]) -> Value | list[Value]:
    """The value of an input, of its kind: one, or a list. Raises InvalidRequest."""
    tensor = INPUTS.get(name)
    if tensor is None:
        raise InvalidRequest(name or "inputs", f"is not an input{nearest(name, INPUTS.keys())}; see ModelMetadata")
    if name != "input_ids" and len(values) > (MAX_ELEMENTS if tensor.is_list else 1):
        raise InvalidRequest(name, f"has {len(values)} elements; at most {MAX_ELEMENTS if tensor.is_list else 1}")
    checked = [_of_kind(tensor, value) for value in values]
    if tensor.is_list:
        return checked
    if not checked:
        raise InvalidRequest(name, "has no element: send one, or leave it out")
    return checked[0]


def _of_kind(tensor: Tensor, value: Value) -> Value:
    kind = _KINDS[tensor.datatype]
    if kind is float and type(value) is int:
        return value
    if type(value) is not kind:
        raise InvalidRequest(tensor.name, f"is {shown(value)}; it must be {tensor.datatype}")
    return value

"""From the protocol's requests to what `Service.generate` takes."""

from collections.abc import Mapping
from dataclasses import dataclass

from muxjax.serving.checks import integer, shown
from muxjax.serving.endpoint import Endpoint, Prompt
from muxjax.serving.errors import InvalidRequest, nearest
from muxjax.serving.frontends.oip import open_inference_pb2 as pb
from muxjax.serving.frontends.oip.bad_words import forbid
from muxjax.serving.frontends.oip.inputs import OUTPUTS, check_input
from muxjax.serving.frontends.oip.sampling_json import read_sampling_json
from muxjax.serving.frontends.oip.tensors import Value, read_inputs

# Inputs that are fields of `SamplingParams`, and the fields' names.
_SAMPLING = {
    "max_tokens": "max_tokens",
    "request_output_len": "max_tokens",
    "min_tokens": "min_tokens",
    "min_length": "min_tokens",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "temperature": "temperature",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "random_seed": "seed",
}
_SAMPLING_PARAMETERS = {**_SAMPLING, "n": "n", "ignore_eos": "ignore_eos", "logprobs": "logprobs"}
# Request parameters that are not for sampling; those without a use here are harmless.
_PARAMETERS = ("triton_enable_empty_final_response", "timeout", "priority", "binary_data_output", "Streaming")
_MICROSECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class Inference:
    """One request, read.

    Attributes:
        prompt: text or token ids.
        sampling: fields of `SamplingParams`.
        stream: whether a response follows for whatever is new, or one for all of it.
        outputs: the tensors of its responses, in their order.
        prefix: what a completion's text begins with: the prompt, unless that is excluded.
        empty_final: whether the last response is one without tensors.
        timeout: seconds from its arrival; None never.
    """

    prompt: Prompt
    sampling: Mapping[str, object]
    stream: bool
    outputs: tuple[str, ...]
    prefix: str
    empty_final: bool
    timeout: float | None


def is_stop(request: pb.ModelInferRequest) -> bool:
    """Whether it asks to stop another request, as TensorRT-LLM's clients do."""
    index = next((index for index, tensor in enumerate(request.inputs) if tensor.name == "stop"), None)
    if index is None:
        return False
    stop = pb.ModelInferRequest(
        inputs=request.inputs[index : index + 1], raw_input_contents=request.raw_input_contents[index : index + 1]
    )
    return bool(check_input("stop", read_inputs(stop)["stop"][1]))


def read_request(request: pb.ModelInferRequest, endpoint: Endpoint) -> Inference:
    """Every input, parameter and output, checked. Raises InvalidRequest naming the one that is wrong."""
    values = {name: check_input(name, elements) for name, (_, elements) in read_inputs(request).items()}
    parameters = _parameters(request)
    sampling = _sampling(values, parameters, endpoint)
    prompt = _prompt(values)
    stream = values.get("stream") is True
    if stream and values.get("exclude_input_in_output") is False:
        raise InvalidRequest("exclude_input_in_output", "is false, which a stream cannot do: leave it out")
    includes_prompt = not (stream or values.get("exclude_input_in_output"))
    outputs = _outputs(request, values, endpoint)
    if "output_ids" in outputs and sampling.get("n", 1) != 1:
        raise InvalidRequest("n", "must be 1 where output_ids are asked for")
    if not {"logprobs", "output_log_probs"}.isdisjoint(outputs):
        sampling.setdefault("logprobs", 0)
    return Inference(
        prompt=prompt,
        sampling=sampling,
        stream=stream,
        outputs=outputs,
        prefix=prompt if includes_prompt and isinstance(prompt, str) else "",
        empty_final=parameters.get("triton_enable_empty_final_response") is True,
        timeout=_timeout(parameters.get("timeout")),
    )


def _prompt(values: Mapping[str, Value | list[Value]]) -> Prompt:
    text, ids = values.get("text_input"), values.get("input_ids")
    if (text is None) == (ids is None):
        raise InvalidRequest("text_input", "is missing: send text_input or input_ids, one of them")
    if isinstance(text, str):
        return text
    token_ids = [token for token in ids if isinstance(token, int)] if isinstance(ids, list) else []
    length = values.get("input_lengths", len(token_ids))
    if length != len(token_ids):
        raise InvalidRequest("input_lengths", f"is {shown(length)}, but input_ids has {len(token_ids)}")
    return token_ids


def _parameters(request: pb.ModelInferRequest) -> dict[str, Value]:
    """The request's parameters: the protocol's own, and sampling options."""
    found: dict[str, Value] = {}
    for name, parameter in request.parameters.items():
        if name not in _PARAMETERS and name not in _SAMPLING_PARAMETERS:
            known = (*_PARAMETERS, *_SAMPLING_PARAMETERS)
            raise InvalidRequest(f"parameters.{name[:128]}", f"is not known here{nearest(name, known)}")
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequest(f"parameters.{name}", "has no value")
        found[name] = getattr(parameter, choice)
    return found


def _sampling(
    values: Mapping[str, Value | list[Value]], parameters: Mapping[str, Value], endpoint: Endpoint
) -> dict[str, object]:
    """Fields of `SamplingParams`, from JSON, from the parameters and from tensors; the later ones win."""
    text = values.get("sampling_parameters")
    sampling = read_sampling_json(text) if isinstance(text, str) and text else {}
    sampling.update({field: parameters[name] for name, field in _SAMPLING_PARAMETERS.items() if name in parameters})
    sampling.update({field: values[name] for name, field in _SAMPLING.items() if name in values})
    if values.get("top_p") == 0:  # TensorRT-LLM's word for all
        del sampling["top_p"]
    if values.get("beam_width", 1) != 1:
        raise InvalidRequest("beam_width", "must be 1: there is no beam search here")
    if stops := _words(values.get("stop_words")):
        sampling["stop"] = stops
    _take_end(values.get("end_id"), sampling)
    words = [*_words(values.get("bad_words")), *_bad_words(sampling.pop("bad_words", None))]
    if words:
        bias = sampling.get("logit_bias")
        sampling["logit_bias"] = {**(bias if isinstance(bias, Mapping) else {}), **forbid(endpoint, words)}
    return sampling


def _take_end(end_id: object, sampling: dict[str, object]) -> None:
    """TensorRT-LLM's end token: one more that ends the completion; -1 for none, not even the model's own."""
    if end_id == -1:
        sampling["ignore_eos"] = True
    elif end_id is not None:
        others = sampling.get("stop_token_ids")
        sampling["stop_token_ids"] = [*(others if isinstance(others, list) else []), end_id]


def _words(value: object) -> list[str]:
    """The words of a tensor; clients send "" for none."""
    return [word for word in value if isinstance(word, str) and word] if isinstance(value, list) else []


def _bad_words(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise InvalidRequest("bad_words", f"must be a list of strings, not {shown(value)}")
    checked = check_input("bad_words", value)
    return _words(checked)


def _outputs(
    request: pb.ModelInferRequest, values: Mapping[str, Value | list[Value]], endpoint: Endpoint
) -> tuple[str, ...]:
    """The outputs that were asked for by their names, or else by inputs such as `return_logprobs`."""
    for output in request.outputs:
        if output.name not in OUTPUTS:
            raise InvalidRequest(
                f"outputs.{output.name[:128]}", f"is not an output{nearest(output.name, OUTPUTS.keys())}"
            )
        if output.parameters:
            raise InvalidRequest(f"outputs.{output.name}", f"takes no parameters, such as {min(output.parameters)}")
    wanted = {output.name for output in request.outputs} or {"text_output" if endpoint.tokenizer else "output_ids"}
    asked = {
        "finish_reason": "return_finish_reason",
        "logprobs": "return_logprobs",
        "num_input_tokens": "return_num_input_tokens",
        "num_output_tokens": "return_num_output_tokens",
        "output_log_probs": "return_log_probs",
    }
    wanted |= {output for output, flag in asked.items() if values.get(flag) is True}
    return tuple(name for name in OUTPUTS if name in wanted)


def _timeout(microseconds: Value | None) -> float | None:
    """Seconds; 0 is none."""
    if microseconds is None:
        return None
    if isinstance(microseconds, str) and microseconds.isascii() and microseconds.isdigit() and len(microseconds) < 19:
        microseconds = int(microseconds)
    return integer("parameters.timeout", microseconds, 0) * _MICROSECONDS or None

"""From outputs to the protocol's responses."""

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from muxjax.serving.endpoint import Endpoint
from muxjax.serving.frontends.oip import open_inference_pb2 as pb
from muxjax.serving.frontends.oip.inputs import OUTPUTS
from muxjax.serving.frontends.oip.request import Inference
from muxjax.serving.frontends.oip.tensors import raw_numbers, raw_text
from muxjax.serving.request import Output, Request

VERSION = "1"
"""Of every model."""
FINAL = "triton_final_response"

_UNFINISHED = "None"  # as Triton's vLLM backend writes it
_LEAST_LOGPROB = -9999.0  # JSON has no infinity


def empty_response(model: str, request_id: str, *, final: bool) -> pb.ModelInferResponse:
    """A response without tensors."""
    response = pb.ModelInferResponse(model_name=model, model_version=VERSION, id=request_id)
    response.parameters[FINAL].bool_param = final
    return response


class ResponseWriter:
    """Writes one request's responses; what they have in common is written once."""

    def __init__(self, message: pb.ModelInferRequest, inference: Inference, endpoint: Endpoint, request: Request):
        self._names = inference.outputs
        self._prefix = inference.prefix
        self._endpoint = endpoint
        self._request = request
        self._model, self._id = message.model_name, message.id
        self._head = pb.ModelStreamInferResponse()  # of the last response: all but its contents
        self._lengths: list[int] = []  # of its tensors

    def response(self, outputs: Sequence[Output], *, final: bool) -> pb.ModelStreamInferResponse:
        """What completions gained: at most one output for each; others gained nothing."""
        if len(outputs) < self._request.sampling.n:
            by_index = {output.index: output for output in outputs}
            empty = (Output(self._request.id, index) for index in range(self._request.sampling.n))
            outputs = [by_index.get(output.index, output) for output in empty]
        else:
            outputs = sorted(outputs, key=lambda output: output.index)
        contents = [_CONTENTS[name](self, outputs) for name in self._names]
        message = pb.ModelStreamInferResponse()
        message.CopyFrom(self._head_for([length for length, _ in contents]))
        message.infer_response.raw_output_contents.extend([raw for _, raw in contents])
        if final:
            message.infer_response.parameters[FINAL].bool_param = True
        return message

    def _head_for(self, lengths: list[int]) -> pb.ModelStreamInferResponse:
        """A response without contents, whose tensors are so long: most often as long as those before."""
        if lengths != self._lengths:
            response = empty_response(self._model, self._id, final=False)
            for name, length in zip(self._names, lengths, strict=True):
                response.outputs.add(name=name, datatype=OUTPUTS[name].datatype, shape=(length,))
            self._head, self._lengths = pb.ModelStreamInferResponse(infer_response=response), lengths
        return self._head

    def _text_output(self, outputs: Sequence[Output]) -> tuple[int, bytes]:
        return len(outputs), raw_text([self._prefix + output.text for output in outputs])

    def _finish_reason(self, outputs: Sequence[Output]) -> tuple[int, bytes]:
        return len(outputs), raw_text([output.finish_reason or _UNFINISHED for output in outputs])

    def _logprobs(self, outputs: Sequence[Output]) -> tuple[int, bytes]:
        return len(outputs), raw_text([self._logprobs_json(output) for output in outputs])

    def _num_input_tokens(self, outputs: Sequence[Output]) -> tuple[int, bytes]:
        return 1, raw_numbers("UINT32", [len(self._request.prompt_token_ids)])

    def _num_output_tokens(self, outputs: Sequence[Output]) -> tuple[int, bytes]:
        return len(outputs), raw_numbers("UINT32", [len(output.token_ids) for output in outputs])

    def _output_ids(self, outputs: Sequence[Output]) -> tuple[int, bytes]:
        return len(outputs[0].token_ids), raw_numbers("INT32", outputs[0].token_ids)

    def _output_log_probs(self, outputs: Sequence[Output]) -> tuple[int, bytes]:
        chosen = [entry.chosen for output in outputs for entry in output.logprobs]
        return len(chosen), raw_numbers("FP32", chosen)

    def _logprobs_json(self, output: Output) -> str:
        """For each token the likeliest ones and itself, as vLLM writes them."""
        positions = []
        for token, entry in zip(output.token_ids, output.logprobs, strict=True):
            ranked = zip(entry.top_ids, entry.top_logprobs, strict=True)
            tops = {str(top): self._logprob(top, logprob, rank) for rank, (top, logprob) in enumerate(ranked, start=1)}
            positions.append({str(token): self._logprob(token, entry.chosen, None), **tops})
        return msgspec.json.encode(positions).decode()

    def _logprob(self, token: int, logprob: float, rank: int | None) -> Mapping[str, object]:
        tokenizer = self._endpoint.tokenizer
        text = None if tokenizer is None else tokenizer.decode([token], skip_special_tokens=False)
        value = max(logprob, _LEAST_LOGPROB) if not math.isnan(logprob) else None
        return {"logprob": value, "rank": rank, "decoded_token": text}


type _Contents = Callable[[ResponseWriter, Sequence[Output]], tuple[int, bytes]]

_CONTENTS: Mapping[str, _Contents] = {
    "text_output": ResponseWriter._text_output,
    "finish_reason": ResponseWriter._finish_reason,
    "logprobs": ResponseWriter._logprobs,
    "num_input_tokens": ResponseWriter._num_input_tokens,
    "num_output_tokens": ResponseWriter._num_output_tokens,
    "output_ids": ResponseWriter._output_ids,
    "output_log_probs": ResponseWriter._output_log_probs,
}

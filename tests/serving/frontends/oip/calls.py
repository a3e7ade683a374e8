"""Building the protocol's requests and reading its responses, without any client library."""

import struct
from collections.abc import Iterable, Iterator

import grpc
from google.protobuf import message_factory

from muxjax.serving.frontends.oip import open_inference_pb2 as pb
from muxjax.serving.frontends.oip.handlers import SERVICE

CONTENTS = {
    "BOOL": "bool_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class OpenInferenceStub:
    """A method for each call of the service, as generated stubs have them."""

    def __init__(self, channel: grpc.Channel) -> None:
        for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
            kind = channel.stream_stream if method.client_streaming else channel.unary_unary
            request = message_factory.GetMessageClass(method.input_type)
            response = message_factory.GetMessageClass(method.output_type)
            call = kind(f"/{SERVICE}/{method.name}", request.SerializeToString, response.FromString)
            setattr(self, method.name, call)


def tensor(
    name: str, datatype: str, *values: object, shape: Iterable[int] | None = None
) -> pb.ModelInferRequest.InferInputTensor:
    """An input with typed contents, of one dimension unless a shape says otherwise."""
    if datatype == "BYTES":
        values = tuple(value.encode() if isinstance(value, str) else value for value in values)
    contents = pb.InferTensorContents(**{CONTENTS[datatype]: values})
    return pb.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=(len(values),) if shape is None else shape, contents=contents
    )


def infer(*inputs: pb.ModelInferRequest.InferInputTensor, text: str | None = "abc", **fields: object) -> object:
    """A request for "echo"; `text` None sends no prompt."""
    prompt = () if text is None else (tensor("text_input", "BYTES", text),)
    return pb.ModelInferRequest(**{"model_name": "echo", "inputs": [*prompt, *inputs], **fields})


def parameter(value: object) -> pb.InferParameter:
    """A request parameter of the value's type."""
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    return pb.InferParameter(**{kinds[type(value)]: value})


def outputs(response: pb.ModelInferResponse) -> dict[str, list[object]]:
    """Each output's elements."""
    return {
        output.name: _elements(output.datatype, raw)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _elements(datatype: str, raw: bytes) -> list[object]:
    if datatype != "BYTES":
        code = {"UINT32": "I", "INT32": "i", "FP32": "f"}[datatype]
        return [value for (value,) in struct.iter_unpack(f"<{code}", raw)]
    texts, offset = [], 0
    while offset < len(raw):
        (length,) = struct.unpack_from("<I", raw, offset)
        texts.append(raw[offset + 4 : offset + 4 + length].decode())
        offset += 4 + length
    return texts


def is_final(response: pb.ModelInferResponse) -> bool:
    """Whether it is its request's last."""
    return response.parameters["triton_final_response"].bool_param


def texts(responses: Iterator[pb.ModelStreamInferResponse]) -> dict[str, str]:
    """The text of each request of a stream, by its id; fails on errors."""
    found: dict[str, str] = {}
    for response in responses:
        assert not response.error_message, response.error_message
        inner = response.infer_response
        pieces = outputs(inner).get("text_output", [])
        found[inner.id] = found.get(inner.id, "") + "".join(pieces)
    return found

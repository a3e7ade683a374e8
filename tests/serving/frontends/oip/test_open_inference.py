"""inference.GRPCInferenceService over real sockets: both dialects, streams of many requests, and bad input."""

import json
import queue
import struct
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from muxjax.serving.frontends.oip import open_inference_pb2 as pb
from tests.serving.frontends.echo import Echo, EchoUnit, serve
from tests.serving.frontends.oip.calls import OpenInferenceStub, infer, is_final, outputs, parameter, tensor, texts

STREAM = tensor("stream", "BOOL", True)
SHORT = tensor("max_tokens", "INT32", 5)
ENDLESS = tensor("max_tokens", "INT32", 90_000)
RETURN_LOGPROBS = tensor("return_logprobs", "BOOL", True)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(EchoUnit()) as running:
        yield running
        running.eventually(lambda: running.service.num_requests == 0 and not running.unit.live)


@pytest.fixture
def stub(echo: Echo) -> Iterator[OpenInferenceStub]:
    with grpc.insecure_channel(echo.address) as channel:
        yield OpenInferenceStub(channel)


def sampling(**fields: object) -> pb.ModelInferRequest.InferInputTensor:
    return tensor("sampling_parameters", "BYTES", json.dumps(fields))


def refusal(stub: OpenInferenceStub, request: object, call: str = "ModelInfer") -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        getattr(stub, call)(request)
    return refused.value.code(), refused.value.details()


def answer(stub: OpenInferenceStub, *inputs: object, **fields: object) -> dict[str, list[object]]:
    return outputs(stub.ModelInfer(infer(tensor("exclude_input_in_output", "BOOL", True), *inputs, **fields)))


class Session:
    """A ModelStreamInfer call whose requests are sent one by one."""

    def __init__(self, stub: OpenInferenceStub) -> None:
        self._requests: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.responses = stub.ModelStreamInfer(iter(self._requests.get, None))

    def send(self, *requests: object) -> None:
        for request in requests:
            self._requests.put(request)

    def end(self) -> None:
        self._requests.put(None)


def test_one_request_gives_one_response_with_prompt_and_completion(stub: OpenInferenceStub) -> None:
    response = stub.ModelInfer(infer(SHORT, id="7"))
    assert outputs(response) == {"text_output": ["abcabcab"]}
    assert (response.model_name, response.model_version, response.id) == ("echo", "1", "7")
    assert is_final(response)
    assert answer(stub, SHORT) == {"text_output": ["abcab"]}


def test_vllms_options_come_as_json_whose_numbers_may_be_strings(stub: OpenInferenceStub, echo: Echo) -> None:
    options = sampling(
        max_tokens="40000", temperature="0.5", top_k=-1, seed="7", logit_bias={"65": "1.5"}, ignore_eos="true", n=2
    )
    session = Session(stub)
    session.send(infer(STREAM, options))
    next(session.responses)
    ((sent, _, _),) = echo.unit.live.values()
    assert (sent.sampling.max_tokens, sent.sampling.temperature, sent.sampling.top_k) == (40_000, 0.5, 0)
    assert (sent.sampling.seed, sent.sampling.logit_bias, sent.sampling.n) == (7, {65: 1.5}, 2)
    assert sent.sampling.ignore_eos
    session.responses.cancel()
    echo.eventually(lambda: not echo.unit.live)


def test_tensorrt_llms_options_come_as_tensors(stub: OpenInferenceStub, echo: Echo) -> None:
    session = Session(stub)
    session.send(
        infer(
            STREAM,
            ENDLESS,
            tensor("stop_words", "BYTES", "END", "", shape=(1, 2)),
            tensor("bad_words", "BYTES", "z"),
            tensor("top_k", "INT32", 3, shape=(1, 1)),
            tensor("top_p", "FP32", 0.5),
            tensor("temperature", "FP32", 0.25, shape=()),
            tensor("repetition_penalty", "FP32", 1.5),
            tensor("presence_penalty", "FP32", 0.5),
            tensor("frequency_penalty", "FP32", 0.25),
            tensor("min_length", "INT32", 2),
            tensor("seed", "UINT64", 2**64 - 1),
            tensor("end_id", "INT32", 9),
            tensor("pad_id", "INT32", 9),
            tensor("beam_width", "INT32", 1),
            tensor("length_penalty", "FP32", 1.0),
        )
    )
    next(session.responses)
    ((sent, _, _),) = echo.unit.live.values()
    params = sent.sampling
    assert (params.max_tokens, params.min_tokens, params.top_k, params.seed) == (90_000, 2, 3, 2**64 - 1)
    assert (params.top_p, params.temperature, params.repetition_penalty) == (0.5, 0.25, 1.5)
    assert (params.presence_penalty, params.frequency_penalty) == (0.5, 0.25)
    assert (params.stop, params.stop_token_ids) == (("END",), (9,))
    assert params.logit_bias == {ord("z"): -100.0}
    session.responses.cancel()
    echo.eventually(lambda: not echo.unit.live)


def test_options_may_come_as_request_parameters_and_priorities_are_ignored(stub: OpenInferenceStub) -> None:
    given = {"max_tokens": parameter(4), "temperature": parameter(0.5), "priority": parameter(3)}
    assert answer(stub, parameters=given) == {"text_output": ["abca"]}


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_may_have_any_shape(stub: OpenInferenceStub, shape: tuple[int, ...]) -> None:
    text = tensor("text_input", "BYTES", "xy", shape=shape)
    assert answer(stub, text, tensor("max_tokens", "INT32", 3, shape=shape), text=None) == {"text_output": ["xyx"]}


def test_tensors_may_come_as_raw_bytes(stub: OpenInferenceStub) -> None:
    names = (("text_input", "BYTES"), ("max_tokens", "INT64"), ("exclude_input_in_output", "BOOL"))
    inputs = [pb.ModelInferRequest.InferInputTensor(name=name, datatype=kind, shape=[1]) for name, kind in names]
    raw = [struct.pack("<I", 6) + "é🎈".encode(), struct.pack("<q", 2), b"\1"]
    response = stub.ModelInfer(pb.ModelInferRequest(model_name="echo", inputs=inputs, raw_input_contents=raw))
    assert outputs(response) == {"text_output": ["é🎈"]}


def test_token_ids_go_in_and_come_out_without_a_tokenizer(stub: OpenInferenceStub) -> None:
    ids = tensor("input_ids", "INT32", 5, 6, 7, shape=(1, 3))
    lengths = tensor("input_lengths", "INT32", 3)
    request = infer(ids, lengths, tensor("request_output_len", "UINT32", 4), text=None, model_name="ids")
    assert outputs(stub.ModelInfer(request)) == {"output_ids": [5, 6, 7, 5]}


def test_whatever_else_is_asked_for_comes_with_the_text(stub: OpenInferenceStub) -> None:
    flags = ("finish_reason", "logprobs", "num_input_tokens", "num_output_tokens", "log_probs")
    found = answer(stub, sampling(max_tokens=2, logprobs=1), *(tensor(f"return_{f}", "BOOL", True) for f in flags))
    assert found["finish_reason"] == ["length"]
    assert (found["num_input_tokens"], found["num_output_tokens"]) == ([3], [2])
    assert found["output_log_probs"] == [-0.5, -0.5]
    first, _ = json.loads(found["logprobs"][0])
    assert first == {
        "97": {"logprob": -0.5, "rank": None, "decoded_token": "a"},
        "0": {"logprob": -1.0, "rank": 1, "decoded_token": "\0"},
    }
    only = stub.ModelInfer(
        infer(SHORT, outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="finish_reason")])
    )
    assert outputs(only) == {"finish_reason": ["length"]}


def test_completions_of_one_prompt_are_elements_of_one_tensor(stub: OpenInferenceStub) -> None:
    assert answer(stub, sampling(max_tokens=2, n=3)) == {"text_output": ["ab"] * 3}
    session = Session(stub)
    session.send(infer(STREAM, sampling(max_tokens=4, n=2)))
    session.end()
    pieces = [outputs(response.infer_response)["text_output"] for response in session.responses]
    assert ["".join(texts) for texts in zip(*pieces, strict=True)] == ["abca"] * 2


def test_a_stream_gives_what_is_new_and_marks_the_last_response(stub: OpenInferenceStub) -> None:
    responses = list(stub.ModelStreamInfer(iter([infer(STREAM, SHORT, id="a")])))
    assert "".join(outputs(response.infer_response)["text_output"][0] for response in responses) == "abcab"
    assert all("triton_final_response" in response.infer_response.parameters for response in responses)
    assert [is_final(response.infer_response) for response in responses] == [False] * (len(responses) - 1) + [True]


def test_an_empty_final_response_is_sent_where_asked_for(stub: OpenInferenceStub) -> None:
    asked = {"triton_enable_empty_final_response": parameter(True)}
    *rest, last = stub.ModelStreamInfer(iter([infer(STREAM, SHORT, id="a", parameters=asked)]))
    assert not any(is_final(response.infer_response) for response in rest)
    assert is_final(last.infer_response)
    assert (last.infer_response.id, len(last.infer_response.outputs)) == ("a", 0)


def test_many_requests_to_several_models_share_one_stream(stub: OpenInferenceStub) -> None:
    ids = tensor("input_ids", "INT32", 5, 6)
    requests = [infer(STREAM, SHORT, text=f"{number} ", id=str(number)) for number in range(300)]
    requests.append(infer(ids, STREAM, SHORT, text=None, model_name="ids", id="ids"))
    found = texts(stub.ModelStreamInfer(iter(requests)))
    assert found == {str(number): (f"{number} " * 5)[:5] for number in range(300)} | {"ids": ""}


def test_an_error_names_its_request_and_the_stream_stays_open(stub: OpenInferenceStub) -> None:
    session = Session(stub)
    session.send(infer(STREAM, sampling(temperature=-1), id="bad"))
    failed = next(session.responses)
    assert failed.error_message.startswith("temperature: is -1")
    assert failed.infer_response.id == "bad"
    assert is_final(failed.infer_response)
    session.send(infer(STREAM, id="nowhere", model_name="eco"), infer(SHORT, id="good"))
    assert "did you mean 'echo'?" in next(session.responses).error_message
    assert next(session.responses).infer_response.id == "good"
    session.end()
    assert list(session.responses) == []


def test_cancelling_a_stream_aborts_its_requests(stub: OpenInferenceStub, echo: Echo) -> None:
    session = Session(stub)
    session.send(infer(STREAM, ENDLESS, id="1"), infer(STREAM, ENDLESS, id="2"))
    while len(echo.unit.live) < 2:
        next(session.responses)
    session.responses.cancel()
    echo.eventually(lambda: not echo.unit.live and echo.service.num_requests == 0)


def test_a_stop_request_ends_those_of_its_id_only(stub: OpenInferenceStub, echo: Echo) -> None:
    session = Session(stub)
    session.send(infer(STREAM, ENDLESS, id="1"), infer(STREAM, ENDLESS, id="2"))
    while len(echo.unit.live) < 2:
        next(session.responses)
    session.send(infer(tensor("stop", "BOOL", True), text=None, id="1"))
    finals = (response.infer_response for response in session.responses if is_final(response.infer_response))
    assert [next(finals).id, next(finals).id] == ["1", "1"]
    assert len(echo.unit.live) == 1
    session.responses.cancel()
    echo.eventually(lambda: not echo.unit.live)


def test_a_request_ends_with_its_timeout_and_its_calls_deadline(stub: OpenInferenceStub, echo: Echo) -> None:
    session = Session(stub)
    session.send(infer(ENDLESS, id="1", parameters={"timeout": parameter(50_000)}))
    assert next(session.responses).error_message == "the request's time ran out"
    session.end()
    with pytest.raises(grpc.RpcError) as late:
        stub.ModelInfer(infer(ENDLESS), timeout=0.2)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    echo.eventually(lambda: not echo.unit.live)


def test_a_vanished_client_aborts_its_requests(echo: Echo) -> None:
    with grpc.insecure_channel(echo.address) as channel:
        session = Session(OpenInferenceStub(channel))
        session.send(infer(STREAM, ENDLESS))
        next(session.responses)
    echo.eventually(lambda: not echo.unit.live and echo.service.num_requests == 0)
    session.end()


RAW = pb.ModelInferRequest.InferInputTensor


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (infer(text=None), "text_input: is missing"),
        (infer(tensor("input_ids", "INT32", 1)), "text_input: is missing: send text_input or input_ids, one of them"),
        (infer(tensor("txt_input", "BYTES", "a")), "txt_input: is not an input (did you mean 'text_input'?)"),
        (infer(tensor("max_tokens", "BYTES", "5")), "max_tokens: is '5'; it must be INT32"),
        (infer(tensor("max_tokens", "INT32", 5, 6)), "max_tokens: has 2 elements; at most 1"),
        (infer(tensor("max_tokens", "INT32")), "max_tokens: has no element"),
        (infer(tensor("max_tokens", "INT32", 5, shape=(2,))), "max_tokens: has 1 elements in int_contents; its shape"),
        (infer(tensor("max_tokens", "INT32", 5, shape=(-1,))), "max_tokens: has a shape that cannot be"),
        (infer(tensor("max_tokens", "INT32", 5, shape=(1,) * 9)), "max_tokens: has a shape that cannot be"),
        (infer(RAW(name="max_tokens", datatype="BF16", shape=[1])), "max_tokens: has the datatype 'BF16'"),
        (infer(SHORT, SHORT), "max_tokens: is sent twice"),
        (infer(tensor("text_input", "BYTES", b"\xff"), text=None), "text_input: is not UTF-8 text (byte 0)"),
        (infer(tensor("temperature", "FP32", float("nan"))), "temperature: is nan"),
        (infer(tensor("beam_width", "INT32", 2)), "beam_width: must be 1"),
        (infer(tensor("bad_words", "BYTES", "several")), "bad_words: holds 'several', which is 7 tokens to echo"),
        (infer(tensor("stop_words", "BYTES", *["x"] * 65)), "stop_words: has 65 elements; at most 64"),
        (infer(sampling(temprature=1)), "temprature: is not a sampling parameter (did you mean 'temperature'?)"),
        (infer(sampling(max_tokens="many")), "max_tokens: must be a number, not 'many'"),
        (infer(tensor("sampling_parameters", "BYTES", '{"top_p": NaN}')), "sampling_parameters: is not JSON"),
        (infer(tensor("sampling_parameters", "BYTES", "[1]")), "sampling_parameters: must be a JSON object"),
        (infer(tensor("sampling_parameters", "BYTES", "[" * 100_000)), "sampling_parameters: is not JSON"),
        (infer(parameters={"tempreture": parameter(1.0)}), "parameters.tempreture: is not known here (did you mean"),
        (infer(parameters={"timeout": parameter(-1)}), "parameters.timeout: is -1"),
        (infer(parameters={"timeout": pb.InferParameter()}), "parameters.timeout: has no value"),
        (infer(raw_input_contents=[b"", b""]), "raw_input_contents: has 2 entries for 1 inputs"),
        (infer(raw_input_contents=[b"\x03\0\0\0abc"]), "text_input: is sent both raw and typed"),
        (infer(STREAM), "stream: is true, which one response cannot be: call ModelStreamInfer"),
        (infer(model_version="2"), "model_version: is '2'"),
        (infer(id="x" * 257), "id: has 257 characters"),
        (infer(outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="text")]), "outputs.text: is not an"),
    ],
)
def test_bad_input_is_refused_by_its_name(stub: OpenInferenceStub, request_: object, message: str) -> None:
    code, details = refusal(stub, request_)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(message)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x03\0\0", b"\x04\0\0\0abc", b"\xff\xff\xff\xffabc", b"\x03\0\0\0abcd", b"\x01\0\0\0a\x01\0\0\0b"],
)
def test_raw_text_that_is_not_what_its_shape_says_is_refused(stub: OpenInferenceStub, raw: bytes) -> None:
    inputs = [RAW(name="text_input", datatype="BYTES", shape=[1])]
    request = pb.ModelInferRequest(model_name="echo", inputs=inputs, raw_input_contents=[raw])
    assert refusal(stub, request)[1].startswith("text_input: ")


def test_tensors_in_shared_memory_are_refused(stub: OpenInferenceStub) -> None:
    shared = tensor("text_input", "BYTES")
    shared.parameters["shared_memory_region"].string_param = "region"
    assert refusal(stub, infer(shared, text=None))[1].startswith("text_input: lies in shared memory")


def test_models_are_described_with_every_input_that_they_take(stub: OpenInferenceStub) -> None:
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="echo"))
    names = {tensor.name for tensor in metadata.inputs}
    assert {"text_input", "stream", "sampling_parameters", "max_tokens", "stop_words", "seed", "input_ids"} <= names
    config = stub.ModelConfig(pb.ModelConfigRequest(name="echo")).config
    assert [tensor.name for tensor in config.input] == [tensor.name for tensor in metadata.inputs]
    assert config.model_transaction_policy.decoupled
    assert all(tensor.optional for tensor in config.input)
    for call, request in (("ModelMetadata", pb.ModelMetadataRequest), ("ModelConfig", pb.ModelConfigRequest)):
        assert refusal(stub, request(name="eco"), call)[0] == grpc.StatusCode.NOT_FOUND
        assert refusal(stub, request(name="late"), call)[0] == grpc.StatusCode.UNAVAILABLE
        assert refusal(stub, request(name="echo", version="3"), call)[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_server_and_models_say_whether_they_are_ready(stub: OpenInferenceStub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "muxjax"
    ready = {name: stub.ModelReady(pb.ModelReadyRequest(name=name)).ready for name in ("echo", "late", "broken", "no")}
    assert ready == {"echo": True, "late": False, "broken": False, "no": False}
    index = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    states = {model.name: model.state for model in index}
    assert states == {"echo": "READY", "ids": "READY", "late": "LOADING", "broken": "UNAVAILABLE"}
    ready_only = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
    assert [model.name for model in ready_only] == ["echo", "ids"]


def test_statistics_count_what_went_well_and_what_did_not(stub: OpenInferenceStub) -> None:
    def figures() -> tuple[int, int]:
        (model,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="echo")).model_stats
        return model.inference_stats.success.count, model.inference_stats.fail.count

    successes, failures = figures()
    stub.ModelInfer(infer(SHORT))
    refusal(stub, infer(tensor("max_tokens", "INT32", 0)))
    assert figures() == (successes + 1, failures + 1)
    assert len(stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats) == 2


@pytest.mark.parametrize(
    ("call", "request_", "code"),
    [
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="echo"), "PERMISSION_DENIED"),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="echo"), "PERMISSION_DENIED"),
        ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(name="a", key="/a"), "UNIMPLEMENTED"),
        ("CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest(name="a"), "UNIMPLEMENTED"),
        ("LogSettings", pb.LogSettingsRequest(settings={"log_info": {"bool_param": True}}), "UNIMPLEMENTED"),
        ("TraceSetting", pb.TraceSettingRequest(settings={"trace_file": {"value": ["/x"]}}), "UNIMPLEMENTED"),
    ],
)
def test_what_clients_may_not_do_is_refused(stub: OpenInferenceStub, call: str, request_: object, code: str) -> None:
    assert refusal(stub, request_, call)[0].name == code


def test_there_is_no_shared_memory_and_settings_can_be_read(stub: OpenInferenceStub) -> None:
    assert not stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest()).regions
    assert not stub.CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest()).regions
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())
    stub.CudaSharedMemoryUnregister(pb.CudaSharedMemoryUnregisterRequest())
    assert stub.TraceSetting(pb.TraceSettingRequest()).settings["trace_level"].value == ["OFF"]
    assert stub.LogSettings(pb.LogSettingsRequest()).settings["log_error"].bool_param


def test_reflection_describes_the_service(echo: Echo) -> None:
    with grpc.insecure_channel(echo.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "inference.GRPCInferenceService" in database.get_services()
        assert database.FindFileContainingSymbol("inference.ModelInferRequest").package == "inference"
        assert database.FindFileContainingSymbol("grpc.health.v1.Health").package == "grpc.health.v1"


def test_another_definition_of_the_package_in_the_process_does_no_harm() -> None:
    program = """
from google.protobuf import descriptor_pb2, descriptor_pool
other = descriptor_pb2.FileDescriptorProto(name="grpc_service.proto", package="inference")
other.message_type.add(name="ModelInferRequest").field.add(name="other", number=1, type=9, label=1)
descriptor_pool.Default().Add(other)
from muxjax.serving.frontends.grpc.server import GrpcServer
from muxjax.serving.frontends.oip import open_inference_pb2 as pb
print(pb.ModelInferRequest(model_name="ours").model_name)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "ours\n"


def test_bytes_that_are_no_request_end_the_call_with_the_clients_fault(echo: Echo) -> None:
    with grpc.insecure_channel(echo.address) as channel:
        service = "/inference.GRPCInferenceService"
        with pytest.raises(grpc.RpcError) as unary:
            channel.unary_unary(f"{service}/ModelInfer", None, None)(b"\xff\xff")
        with pytest.raises(grpc.RpcError) as stream:
            list(channel.stream_stream(f"{service}/ModelStreamInfer", None, None)(iter([b"\xff\xff"])))
    assert unary.value.code() == stream.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_client_that_does_not_read_its_stream_is_let_go() -> None:
    window = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))
    with serve(EchoUnit(), stall_seconds=0.3) as echo, grpc.insecure_channel(echo.address, window) as channel:
        asked = [
            infer(STREAM, sampling(max_tokens=90_000, n=16, logprobs=20), RETURN_LOGPROBS, id=str(i)) for i in (1, 2)
        ]
        session = Session(OpenInferenceStub(channel))
        session.send(*asked)
        next(session.responses)
        echo.eventually(lambda: len(echo.unit.aborted) == 2 and echo.service.num_requests == 0, seconds=30)
        with pytest.raises(grpc.RpcError) as let_go:
            list(session.responses)
        assert let_go.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        session.end()

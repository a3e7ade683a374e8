"""muxjax.v1.Inference over real sockets: what clients get, and what the unit is spared."""

import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf import any_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from muxjax.serving.frontends.access import AccessControl
from muxjax.serving.frontends.grpc import error_details_pb2 as details_pb
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from muxjax.serving.frontends.grpc.server import GrpcServer, ListenError
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.unit import RefusedError
from tests.serving.frontends.echo import ECHO, Echo, EchoUnit, serve

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(EchoUnit()) as running:
        yield running


@pytest.fixture
def stub(echo: Echo) -> Iterator[InferenceStub]:
    with echo.stub() as stub:
        yield stub


def request(text: str = "abc", model: str = "echo", **sampling: object) -> pb.GenerateRequest:
    return pb.GenerateRequest(model=model, text=text, sampling=pb.SamplingParams(**sampling))


def refusal(stub: InferenceStub, message: pb.GenerateRequest, **call: float) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.Generate(message, **call))
    return refused.value


def read(call: Iterator[pb.GenerateResponse]) -> tuple[int, grpc.RpcError]:
    """How many tokens came before the error that ended the call."""
    tokens = 0
    try:
        for message in call:
            tokens += len(message.token_ids)
    except grpc.RpcError as error:
        return tokens, error
    raise AssertionError("the call ended well")


def detail(error: grpc.RpcError, kind: type) -> object:
    """The one detail of a refusal, parsed."""
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = details_pb.Status.FromString(packed)
    assert status.code == error.code().value[0]
    (any_,) = status.details
    assert isinstance(any_, any_pb2.Any)
    assert any_.type_url == f"type.googleapis.com/google.rpc.{kind.__name__}"
    return kind.FromString(any_.value)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.01)


def test_text_streams_and_the_last_message_carries_reason_and_usage(stub: InferenceStub) -> None:
    messages = list(stub.Generate(request("héllo 🎈", max_tokens=9)))
    assert "".join(message.text for message in messages) == "héllo 🎈hé"
    assert [token for message in messages for token in message.token_ids] == [ord(c) for c in "héllo 🎈hé"]
    assert [message.finish_reason for message in messages[:-1]] == [pb.FINISH_REASON_UNSPECIFIED] * (len(messages) - 1)
    assert not any(message.HasField("usage") for message in messages[:-1])
    assert messages[-1].finish_reason == pb.FINISH_REASON_LENGTH
    assert messages[-1].usage == pb.Usage(prompt_tokens=7, completion_tokens=9)


def test_prompts_come_as_text_token_ids_or_chat(stub: InferenceStub) -> None:
    ids = pb.GenerateRequest(model="ids", token_ids=pb.TokenIds(ids=[65, 66]), sampling=pb.SamplingParams(max_tokens=2))
    assert "".join(message.text for message in stub.Generate(ids)) == "AB"
    chat = pb.Chat(messages=[pb.ChatMessage(role="user", content="hi")])
    message = pb.GenerateRequest(model="echo", chat=chat, sampling=pb.SamplingParams(max_tokens=8))
    assert "".join(message.text for message in stub.Generate(message)) == "<user>hi"


def test_the_templates_own_options_come_as_json(stub: InferenceStub) -> None:
    chat = pb.Chat(messages=[pb.ChatMessage(role="user", content="hi")], chat_template_kwargs='{"enable_thinking": 0}')
    message = pb.GenerateRequest(model="echo", chat=chat, sampling=pb.SamplingParams(max_tokens=9))
    assert "".join(message.text for message in stub.Generate(message)) == "0<user>hi"


def test_every_completion_streams_under_its_index(stub: InferenceStub) -> None:
    texts, finished = ["", "", ""], set()
    for message in stub.Generate(request("xyz", n=3, max_tokens=50)):
        texts[message.index] += message.text
        if message.finish_reason:
            finished.add(message.index)
    assert texts == [("xyz" * 17)[:50]] * 3
    assert finished == {0, 1, 2}
    assert message.usage.completion_tokens == 150


def test_logprobs_come_with_each_token(stub: InferenceStub) -> None:
    messages = list(stub.Generate(request(max_tokens=5, logprobs=2)))
    entries = [entry for message in messages for entry in message.logprobs]
    assert len(entries) == sum(len(message.token_ids) for message in messages) == 5
    assert entries[0].logprob == -0.5
    assert [(top.token_id, top.logprob) for top in entries[0].top] == [(0, -1.0), (1, -2.0)]
    assert not any(message.logprobs for message in stub.Generate(request(max_tokens=5)))


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (request(""), "prompt"),
        (pb.GenerateRequest(model="echo"), "prompt"),
        (pb.GenerateRequest(model="echo", chat=pb.Chat()), "prompt"),
        (pb.GenerateRequest(model="echo", chat=pb.Chat(chat_template_kwargs="[]")), "chat_template_kwargs"),
        (pb.GenerateRequest(model="echo", chat=pb.Chat(chat_template_kwargs='{"tools":0}')), "chat_template_kwargs"),
        (pb.GenerateRequest(model="echo", token_ids=pb.TokenIds(ids=[0x110000])), "prompt"),
        (pb.GenerateRequest(model="echo", token_ids=pb.TokenIds(ids=[-1])), "prompt"),
        (pb.GenerateRequest(model="ids", token_ids=pb.TokenIds(ids=[1] * 64)), "prompt"),
        (request(model="ids"), "prompt"),
        (request("x" * 100_000), "prompt"),
        (request(temperature=float("nan")), "temperature"),
        (request(top_p=float("inf")), "top_p"),
        (request(n=17), "n"),
        (request(stop=["x"] * 17), "stop"),
        (request(logit_bias={3: 101.0}), "logit_bias"),
        (request(max_tokens=0), "max_tokens"),
    ],
)
def test_a_bad_request_is_refused_with_the_name_of_its_field(
    stub: InferenceStub, message: pb.GenerateRequest, field: str
) -> None:
    error = refusal(stub, message)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details().startswith(f"{field}: ")
    violations = detail(error, details_pb.BadRequest).field_violations
    assert [violation.field for violation in violations] == [field]


def test_unset_fields_take_defaults_and_zeros_count_as_set(stub: InferenceStub, echo: Echo) -> None:
    call = stub.Generate(request(temperature=0.0, seed=0, ignore_eos=False, logit_bias={7: 0.0}, stop=["q"]))
    next(call)
    ((sent, _, _),) = echo.unit.live.values()
    assert (sent.sampling.temperature, sent.sampling.seed, sent.sampling.top_p) == (0.0, 0, 1.0)
    assert (sent.sampling.logit_bias, sent.sampling.stop) == ({7: 0.0}, ("q",))
    call.cancel()
    eventually(lambda: not echo.unit.live)


def test_unknown_loading_and_failed_models(stub: InferenceStub) -> None:
    error = refusal(stub, request(model="eco"))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert error.details() == "no model 'eco' here (did you mean 'echo'?); the models are: echo, ids, late, broken"
    error = refusal(stub, request(model="late"))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "model 'late' is not ready (loading): try again soon",
    )
    error = refusal(stub, request(model="broken"))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "weights/ is truncated" in error.details()


def test_a_full_queue_is_refused_with_a_retry_hint() -> None:
    with (
        serve(EchoUnit(refuse_with=RefusedError("echo's queue is full", retry_after=2.5))) as echo,
        echo.stub() as stub,
    ):
        error = refusal(stub, request())
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "echo's queue is full")
    assert detail(error, details_pb.RetryInfo).retry_delay.ToMilliseconds() == 2500
    assert dict(error.trailing_metadata())["retry-after"] == "3"


def test_more_requests_than_allowed_are_refused_while_status_still_answers() -> None:
    with serve(EchoUnit(), max_requests=2) as echo, echo.stub() as stub:
        calls = [stub.Generate(request(max_tokens=90_000)) for _ in range(2)]
        for call in calls:
            next(call)
        error = refusal(stub, request())
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(error.trailing_metadata())["retry-after"] == "1"
        assert stub.GetStatus(pb.GetStatusRequest()).models[0].running == 2
        for call in calls:
            call.cancel()
        eventually(lambda: len(echo.unit.aborted) == 2)
        assert list(stub.Generate(request(max_tokens=3)))


def test_internal_errors_show_an_id_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with serve(EchoUnit(fail_at=3)) as echo, echo.stub() as stub:
        tokens, error = read(stub.Generate(request("abcdef")))
        assert tokens == 4
        assert error.code() == grpc.StatusCode.INTERNAL
        assert "secret" not in error.details()
        reference = error.details().split()[2].rstrip(":")
        assert reference in caplog.text
        assert "secret address 0xdeadbeef" in caplog.text
        echo.unit.fail_at = None
        assert list(stub.Generate(request(max_tokens=3)))
        echo.unit.refuse_with = KeyError("a bug")
        assert refusal(stub, request()).code() == grpc.StatusCode.INTERNAL


def test_cancelling_aborts_the_request_and_no_other(stub: InferenceStub, echo: Echo) -> None:
    echo.unit.aborted.clear()
    call, other = stub.Generate(request(max_tokens=90_000)), stub.Generate(request(max_tokens=500))
    next(call)
    call.cancel()
    eventually(lambda: len(echo.unit.aborted) == 1)
    assert sum(len(message.token_ids) for message in other) == 500
    assert len(echo.unit.aborted) == 1


def test_a_vanished_client_aborts_its_request(echo: Echo) -> None:
    echo.unit.aborted.clear()
    with echo.stub() as stub:
        next(stub.Generate(request(max_tokens=90_000)))
    eventually(lambda: len(echo.unit.aborted) == 1)
    assert not echo.unit.live


def test_the_calls_deadline_ends_the_request(stub: InferenceStub, echo: Echo) -> None:
    assert refusal(stub, request(), timeout=0.2).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: not echo.unit.live)


def test_the_servers_own_limit_ends_a_request_with_what_it_has() -> None:
    with serve(EchoUnit(), request_timeout=0.1) as echo, echo.stub() as stub:
        tokens, error = read(stub.Generate(request()))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert tokens > 0


SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))


def test_a_client_that_never_reads_is_aborted_and_holds_up_nobody() -> None:
    with serve(EchoUnit()) as echo, echo.stub(*SMALL_WINDOW) as stalled, echo.stub() as stub:
        call = stalled.Generate(request(n=16, logprobs=20, max_tokens=90_000))
        next(call)
        assert sum(len(message.token_ids) for message in stub.Generate(request(max_tokens=500))) == 500
        eventually(lambda: len(echo.unit.aborted) == 1)
        assert read(call)[1].code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_client_that_never_reads_the_end_gives_its_place_back() -> None:
    with serve(EchoUnit(), stall_seconds=0.2, max_requests=1) as echo, echo.stub(*SMALL_WINDOW) as stub:
        stalled = stub.Generate(request(n=16, logprobs=20, max_tokens=100))
        eventually(lambda: bool(echo.unit.deliveries) and not echo.unit.live)
        assert refusal(stub, request()).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        eventually(lambda: is_accepted(stub))
        assert read(stalled)[1].details() == "nothing was read for 0.2 s"


def is_accepted(stub: InferenceStub) -> bool:
    try:
        return bool(list(stub.Generate(request(max_tokens=1))))
    except grpc.RpcError:
        return False


def test_a_lagging_reader_gets_everything_in_fewer_messages() -> None:
    with serve(EchoUnit()) as echo, echo.stub(*SMALL_WINDOW) as stub:
        messages = []
        for message in stub.Generate(request("abc", max_tokens=1500, logprobs=5)):
            if len(messages) < 20:
                time.sleep(0.02)
            messages.append(message)
        assert sum(len(message.token_ids) for message in messages) == 1500
        assert "".join(message.text for message in messages) == "abc" * 500
        assert max(len(message.token_ids) for message in messages) > 1
        assert len(messages) < 1500


def test_a_step_crosses_into_the_loop_once_for_all_requests() -> None:
    unit = EchoUnit(step_seconds=0.01)
    with serve(unit) as echo, echo.stub() as stub:
        calls = [stub.Generate(request(max_tokens=20)) for _ in range(8)]
        assert all(sum(len(message.token_ids) for message in call) == 20 for call in calls)
    assert max(unit.deliveries) == 8
    assert len(unit.deliveries) <= 60


def test_models_are_listed_whether_ready_or_not(stub: InferenceStub) -> None:
    models = list(stub.ListModels(pb.ListModelsRequest()).models)
    assert models == [
        pb.Model(name="echo", state=pb.MODEL_STATE_READY, max_context=100_000, vocab_size=0x110000, has_tokenizer=True),
        pb.Model(name="ids", state=pb.MODEL_STATE_READY, max_context=64, vocab_size=0x110000, has_tokenizer=False),
        pb.Model(name="late", state=pb.MODEL_STATE_LOADING),
        pb.Model(name="broken", state=pb.MODEL_STATE_FAILED, error="weights/ is truncated"),
    ]


def test_status_shows_models_and_pool(stub: InferenceStub) -> None:
    status = stub.GetStatus(pb.GetStatusRequest())
    assert (status.blocks_total, status.blocks_free, status.steps, status.fairness_gap) == (1000, 1000, 42, 0.25)
    assert status.uptime_seconds > 0
    assert [model.name for model in status.models] == ["echo", "ids", "late", "broken"]
    echo = status.models[0]
    assert (echo.blocks_quota, echo.preemptions, echo.prompt_tokens, echo.generated_tokens) == (500, 3, 1000, 2000)
    assert (echo.blocks_entitled, echo.errors, echo.tokens_per_second) == (400, 1, 20.0)
    assert (echo.prefill_share, echo.decode_share, status.busy) == (0.25, 0.5, 0.75)
    assert echo.ttft == pb.Percentiles(p50=0.1, p90=0.2, p99=0.3)
    assert not echo.HasField("tpot")
    assert (echo.slo, echo.slo_attainment) == (pb.SLO(ttft=0.2), 0.9)
    assert not status.models[1].HasField("slo_attainment")


def test_health_follows_each_model() -> None:
    with serve(EchoUnit()) as echo, grpc.insecure_channel(echo.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def check(name: str) -> int:
            return health.Check(health_pb2.HealthCheckRequest(service=name)).status

        assert [check(name) for name in ("", "muxjax.v1.Inference", "echo", "ids")] == [SERVING] * 4
        assert [check(name) for name in ("late", "broken")] == [NOT_SERVING] * 2
        with pytest.raises(grpc.RpcError) as unknown:
            check("nobody")
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        first, second = (health.Watch(health_pb2.HealthCheckRequest(service="late")) for _ in range(2))
        assert next(first).status == next(second).status == NOT_SERVING
        first.cancel()
        echo.update(Progress("late", LLMState.READY, endpoint=ECHO))
        assert next(second).status == SERVING
        assert check("late") == SERVING


def test_reflection_describes_the_service(echo: Echo) -> None:
    with grpc.insecure_channel(echo.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) >= {"muxjax.v1.Inference", "grpc.health.v1.Health"}
        assert database.FindFileContainingSymbol("muxjax.v1.Inference").package == "muxjax.v1"


def test_draining_finishes_what_runs_and_refuses_what_comes() -> None:
    with serve(EchoUnit()) as echo, echo.stub() as stub:
        running = stub.Generate(request(max_tokens=300))
        next(running)
        drained = echo.run(echo.service.drain(10.0))
        eventually(lambda: refusal(stub, request()).code() == grpc.StatusCode.UNAVAILABLE)
        tokens = sum(len(message.token_ids) for message in running)
        drained.result(10)
        assert tokens > 250
        assert not echo.unit.aborted


def test_draining_ends_with_its_time() -> None:
    with serve(EchoUnit()) as echo, echo.stub() as stub:
        running = stub.Generate(request(max_tokens=90_000))
        next(running)
        echo.run(echo.service.drain(0.1)).result(10)
        error = read(running)[1]
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert error.details() == "the server stopped before the request was finished"
        eventually(lambda: len(echo.unit.aborted) == 1)


@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1", "Address already in use"), ("192.0.2.1", "Cannot assign requested address"), ("no.invalid", "")],
)
def test_an_address_that_cannot_be_had_says_why_and_what_to_do(echo: Echo, host: str, reason: str) -> None:
    async def listen() -> None:
        GrpcServer(echo.service, AccessControl(), host=host, port=int(echo.address.rpartition(":")[2]))

    with pytest.raises(ListenError, match=rf"cannot listen on {host}:\d+: {reason}.*; choose another with --port"):
        echo.run(listen()).result(10)


def test_an_oversized_message_is_refused_before_it_is_read() -> None:
    with serve(EchoUnit(), max_message_bytes=10_000) as echo, echo.stub() as stub:
        assert refusal(stub, request("x" * 10_001)).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert list(stub.Generate(request("x" * 9_000, max_tokens=1)))

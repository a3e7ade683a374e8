"""Messages that no client would send, to both services: a defined status each, and nothing is left behind.

Seeds are numbers, so that every failure can be had again. `-m slow` runs many more of them.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import grpc
import pytest

from muxjax.serving.frontends.grpc import inference_pb2 as native
from muxjax.serving.frontends.oip import open_inference_pb2 as oip
from muxjax.serving.frontends.oip.inputs import INPUTS
from muxjax.serving.progress import LLMState, Progress
from tests.serving.frontends.echo import ECHO, Echo, EchoUnit, serve
from tests.serving.frontends.oip.calls import CONTENTS

SEEDS = 1_500
MANY_SEEDS = 60_000
SECONDS = 20.0
NATIVE = "/muxjax.v1.Inference/Generate"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
DEFINED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
TEXTS = ("", "a", "abc", "\0", "é🎈", "\u202e\ufeff", "<|end|>", "x" * 5_000, "NaN", "1e999", "-1", "9" * 400, "{}")
NUMBERS = (0, 1, -1, 2, 7, 63, 2**31 - 1, -(2**31))
REALS = (0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), -float("inf"), 1e-300, 1e300)
SHAPES = ((), (1,), (1, 1), (0,), (2,), (-1,), (2**62, 4), (2**31, 2**31), (1,) * 20)
JSON = (
    '{"max_tokens": 3}',
    '{"max_tokens": "3", "n": 2, "logprobs": 2}',
    '{"temperature": NaN}',
    '{"seed": 99999999999999999999999999}',
    '{"stop": [1, null, {}]}',
    '{"logit_bias": {"a": 1}}',
    '{"logit_bias": {"-5": "x"}}',
    '{"bad_words": ["a", 3]}',
    '{"n": 1e308}',
    '{"top_p": []}',
    "[" * 2_000,
    '{"\\ud800": 1}',
    "null",
)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    """Its context is short, so that requests without a limit end soon; no deadline of the server's is in play."""
    with serve(EchoUnit()) as running:
        running.update(Progress("echo", LLMState.READY, endpoint=replace(ECHO, max_context=256)))
        yield running


def native_message(draw: random.Random) -> bytes:
    params = native.SamplingParams(max_tokens=draw.choice((1, 1, 2, 3, 5, 9, 0, -1, 2**40)))
    for name in ("temperature", "top_p", "min_p", "presence_penalty", "repetition_penalty"):
        if draw.random() < 0.05:
            setattr(params, name, draw.choice(REALS))
    for name in ("top_k", "n", "min_tokens", "logprobs"):
        if draw.random() < 0.05:
            setattr(params, name, draw.choice(NUMBERS))
    if draw.random() < 0.1:
        params.stop.extend(draw.choices(TEXTS, k=draw.randrange(20)))
    if draw.random() < 0.1:
        params.stop_token_ids.extend(draw.choices(NUMBERS, k=draw.randrange(70)))
    if draw.random() < 0.1:
        params.logit_bias[draw.choice(NUMBERS)] = draw.choice(REALS)
    request = native.GenerateRequest(model=draw.choice((*["echo"] * 8, "ids", "late", "", "\0")), sampling=params)
    kind = draw.choice((0, 0, 0, 0, 1, 2, 3))
    if kind == 0:
        request.text = draw.choice(TEXTS)
    elif kind == 1:
        request.token_ids.ids.extend(draw.choices(NUMBERS, k=draw.choice((0, 1, 2, 80))))
    elif kind == 2:
        for _ in range(draw.randrange(4)):
            request.chat.messages.add(role=draw.choice(("user", "system", "", "x")), content=draw.choice(TEXTS))
    return request.SerializeToString()


def infer_message(draw: random.Random) -> bytes:
    request = oip.ModelInferRequest(model_name=draw.choice((*["echo"] * 8, "ids", "late", "")))
    request.id = draw.choice(("", "1", "é", "é", "é", "x" * 300))
    names = draw.sample(list(INPUTS), k=draw.randrange(3))
    for name in ("text_input", "max_tokens", *names, *draw.choices(("", "nothing", "stop"), k=draw.random() < 0.1)):
        _add_input(request, name, draw)
    if draw.random() < 0.2:
        raw = (b"", b"\1", b"\0" * 4, b"\1\0\0\0a", b"\xff\xff\xff\xff", b"\0\0\xc0\x7f", draw.randbytes(9))
        for tensor in request.inputs:
            tensor.ClearField("contents")
        request.raw_input_contents.extend(draw.choices(raw, k=len(request.inputs) - draw.randrange(-1, 2)))
    if draw.random() < 0.2:
        name = draw.choice(("timeout", "priority", "temperature", "max_tokens", "n", "logprobs", "x", "top_k"))
        request.parameters[name].double_param = draw.choice(REALS)
        if draw.random() < 0.5:
            request.parameters[name].string_param = draw.choice(TEXTS)
    if draw.random() < 0.1:
        request.outputs.add(name=draw.choice(("text_output", "output_ids", "logprobs", "x")))
    return request.SerializeToString()


def _add_input(request: oip.ModelInferRequest, name: str, draw: random.Random) -> None:
    datatype = INPUTS[name].datatype if name in INPUTS else "BYTES"
    if draw.random() < 0.05:
        datatype = draw.choice((*CONTENTS, "BF16", "FP16", "", "é"))
    tensor = request.inputs.add(
        name=name, datatype=datatype, shape=(1,) if draw.random() < 0.95 else draw.choice(SHAPES)
    )
    field = CONTENTS.get(datatype, "bytes_contents")
    values = (1, 2, 3, 5, *NUMBERS) if name == "max_tokens" else NUMBERS
    values = {
        "bool_contents": (True, False),
        "bytes_contents": [text.encode() for text in (TEXTS if name != "sampling_parameters" else JSON)] + [b"\xff"],
        "fp32_contents": REALS[:-2],
        "fp64_contents": REALS,
        "uint_contents": (0, 1, 3, 2**32 - 1),
        "uint64_contents": (0, 1, 3, 2**64 - 1),
    }.get(field, values)
    getattr(tensor.contents, field).extend(draw.choices(values, k=1 if draw.random() < 0.95 else draw.randrange(70)))


def mutated(message: bytes, draw: random.Random) -> bytes:
    """The message with some bytes changed, cut off, repeated or put in; more often than not as it is."""
    if draw.random() < 0.6:
        return message
    data = bytearray(message)
    for _ in range(draw.randrange(1, 6)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(4):
            case 0:
                data[at : at + 1] = draw.randbytes(1)
            case 1:
                del data[at : at + draw.randrange(1, 10)]
            case 2:
                data[at:at] = draw.randbytes(draw.randrange(1, 10))
            case 3:
                data[at:at] = data[at : at + 20]
    return bytes(data)


def bodies(make: Callable[[random.Random], bytes], seeds: range) -> Iterator[bytes]:
    for seed in seeds:
        draw = random.Random(seed)
        yield mutated(make(draw), draw)


def fuzz(echo: Echo, method: str, make: Callable[[random.Random], bytes], seeds: range) -> None:
    """Each body in a call of its own, 32 at a time, while a request of somebody else runs."""
    with grpc.insecure_channel(echo.address) as channel, echo.stub() as stub:
        request = native.GenerateRequest(model="echo", text="abc", sampling=native.SamplingParams(max_tokens=200))
        other = stub.Generate(request)
        kind = channel.unary_unary if method == INFER else channel.stream_stream
        call = kind(method, None, None)
        pending, answered = [], 0
        for seed, body in zip(seeds, bodies(make, seeds), strict=True):
            started = call.future(body, timeout=SECONDS) if method == INFER else call(iter([body]), timeout=SECONDS)
            pending.append((seed, started))
            if len(pending) == 32:
                answered += check(pending, streams=method != INFER)
        answered += check(pending, streams=method != INFER)
        assert answered > len(seeds) // 20, "nearly all were refused: nothing behind the first checks was tried"
        assert sum(len(message.token_ids) for message in other) == 200
    echo.eventually(lambda: echo.service.num_requests == 0 and not echo.unit.live)


def check(pending: list[tuple[int, grpc.Call]], *, streams: bool) -> int:
    """How many of the calls were answered; a stream's status comes behind its messages, so those are read first."""
    answered = 0
    for seed, call in pending:
        messages = read(call) if streams else []
        code = call.code()
        assert code.name in DEFINED, f"seed {seed}: {code.name}: {call.details()}"
        assert call.details() != "Deadline Exceeded", f"seed {seed}: the server did not answer"
        assert not any(b"internal error" in message for message in messages), f"seed {seed}: {messages[-1]!r}"
        answered += code is grpc.StatusCode.OK
    pending.clear()
    return answered


def read(call: Iterator[bytes]) -> list[bytes]:
    """The messages that came before the call's status."""
    messages = []
    with contextlib.suppress(grpc.RpcError):
        for message in call:
            messages.append(message)
    return messages


CAMPAIGNS = pytest.mark.parametrize(
    ("method", "make"), [(NATIVE, native_message), (INFER, infer_message), (STREAM, infer_message)]
)


@CAMPAIGNS
def test_no_message_is_answered_with_an_internal_error(
    echo: Echo, method: str, make: Callable[[random.Random], bytes]
) -> None:
    fuzz(echo, method, make, range(SEEDS))


@pytest.mark.slow
@CAMPAIGNS
def test_no_message_is_answered_with_an_internal_error_over_many_seeds(
    echo: Echo, method: str, make: Callable[[random.Random], bytes]
) -> None:
    fuzz(echo, method, make, range(SEEDS, MANY_SEEDS))

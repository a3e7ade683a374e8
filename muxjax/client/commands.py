"""What each command does with a connected stub."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping

import grpc

from muxjax.client import tables
from muxjax.client.errors import CommandError
from muxjax.client.options import sampling_params
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub

_LIST_SECONDS = 10.0  # for the calls that answer at once


def list_models(stub: InferenceStub, options: argparse.Namespace) -> None:
    """A table of the models."""
    tables.print_models(stub.ListModels(pb.ListModelsRequest(), timeout=_LIST_SECONDS).models)


def show_status(stub: InferenceStub, options: argparse.Namespace) -> None:
    """A table of what the models do, and the pool that they share."""
    tables.print_status(stub.GetStatus(pb.GetStatusRequest(), timeout=_LIST_SECONDS))


def generate(stub: InferenceStub, options: argparse.Namespace) -> None:
    """Complete one prompt: one completion streams, several are shown one after another."""
    request = _request(stub, options)
    if options.token_ids is not None:
        request.token_ids.ids.extend(options.token_ids)
    else:
        request.text = sys.stdin.read() if options.prompt == "-" else options.prompt
    started = time.monotonic()
    call = stub.Generate(request, timeout=options.timeout)
    try:
        last = _print_several(call, options.n) if (options.n or 1) > 1 else _print_stream(call)
    except KeyboardInterrupt:
        call.cancel()
        raise
    _print_summary(last, time.monotonic() - started)


def chat(stub: InferenceStub, options: argparse.Namespace) -> None:
    """Answer each line of standard input, with all that was said before; Ctrl-C cuts an answer short."""
    request = _request(stub, options)
    if options.system:
        request.chat.messages.add(role="system", content=options.system)
    while (line := _read_line()) is not None:
        request.chat.messages.add(role="user", content=line)
        call = stub.Generate(request, timeout=options.timeout)
        answer: list[str] = []
        try:
            _print_stream(_overhear(call, answer))
        except KeyboardInterrupt:
            call.cancel()
            print()
        except grpc.RpcError as error:
            if not sys.stdin.isatty() or error.code() == grpc.StatusCode.UNAVAILABLE:
                raise
            print(f"error: {error.details()}", file=sys.stderr)
            request.chat.messages.pop()
            continue
        request.chat.messages.add(role="assistant", content="".join(answer))


COMMANDS: Mapping[str, Callable[[InferenceStub, argparse.Namespace], None]] = {
    "models": list_models,
    "status": show_status,
    "generate": generate,
    "chat": chat,
}


def _request(stub: InferenceStub, options: argparse.Namespace) -> pb.GenerateRequest:
    """The request without its prompt."""
    try:
        sampling = sampling_params(options)
    except (ValueError, TypeError) as error:
        raise CommandError(str(error)) from error
    return pb.GenerateRequest(model=options.model or _only_model(stub), sampling=sampling)


def _only_model(stub: InferenceStub) -> str:
    names = [model.name for model in stub.ListModels(pb.ListModelsRequest(), timeout=_LIST_SECONDS).models]
    if len(names) != 1:
        raise CommandError(f"there are several models: choose one with --model ({', '.join(names)})")
    return names[0]


def _overhear(call: Iterable[pb.GenerateResponse], texts: list[str]) -> Iterable[pb.GenerateResponse]:
    for message in call:
        texts.append(message.text)
        yield message


def _print_stream(call: Iterable[pb.GenerateResponse]) -> pb.GenerateResponse:
    """Text as it comes; of a model without a tokenizer the token ids, at the end. Returns the last message."""
    message, has_text = pb.GenerateResponse(), False
    token_ids: list[int] = []
    logprobs: list[pb.TokenLogprobs] = []
    for message in call:
        has_text = has_text or bool(message.text)
        print(message.text, end="", flush=True)
        token_ids += message.token_ids
        logprobs += message.logprobs
    print("" if has_text else " ".join(map(str, token_ids)))
    if logprobs:
        tables.print_logprobs(token_ids, logprobs)
    return message


def _print_several(call: Iterable[pb.GenerateResponse], n: int) -> pb.GenerateResponse:
    """Each completion under its number, when all are there; returns the last message."""
    message, parts = pb.GenerateResponse(), [list[pb.GenerateResponse]() for _ in range(n)]
    for message in call:
        parts[message.index].append(message)
    for index, completion in enumerate(parts):
        print(f"--- {index + 1} of {n}")
        _print_stream(completion)
    return message


def _print_summary(last: pb.GenerateResponse, seconds: float) -> None:
    """Why it ended and how fast it was, for people only."""
    if sys.stderr.isatty():
        reason = pb.FinishReason.Name(last.finish_reason).removeprefix("FINISH_REASON_").lower()
        usage = last.usage
        print(
            f"[{reason}; {usage.prompt_tokens} + {usage.completion_tokens} tokens in {seconds:.2f} s, "
            f"{usage.completion_tokens / seconds:.0f} tokens/s]",
            file=sys.stderr,
        )


def _read_line() -> str | None:
    """The next line to answer; None at the end of the input."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        if line:
            return line

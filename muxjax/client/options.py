"""The command line, and the sampling parameters on it."""

import argparse

from muxjax.client.admin import add_admin_commands
from muxjax.client.connection import add_connection_options
from muxjax.serving.frontends.grpc import inference_pb2 as pb

_NUMBERS: tuple[tuple[str, type, str], ...] = (
    ("max-tokens", int, "most tokens of a completion (default: what the context has left)"),
    ("min-tokens", int, "no end before so many tokens"),
    ("temperature", float, "0 is greedy (default: 1)"),
    ("top-k", int, "keep the k most likely tokens"),
    ("top-p", float, "keep the likeliest tokens that make up this probability"),
    ("min-p", float, "keep tokens at least so likely, relative to the likeliest"),
    ("repetition-penalty", float, "above 1: fewer repetitions of prompt and completion"),
    ("presence-penalty", float, "above 0: fewer tokens that were there already"),
    ("frequency-penalty", float, "above 0: fewer tokens that were there often"),
    ("seed", int, "makes the tokens reproducible"),
)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command and its options."""
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.client",
        description="Talk to a running muxjax server.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad request or unknown model, 3 no server or model not ready, "
        "4 refused for now or out of time, 130 interrupted.",
    )
    common = argparse.ArgumentParser(add_help=False)
    add_connection_options(common)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("models", parents=[common], help="list the models")
    commands.add_parser("status", parents=[common], help="show what models and memory are doing")
    generate = commands.add_parser("generate", parents=[common], help="complete a prompt, streaming")
    prompt = generate.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", help="text to go on from; - reads standard input")
    prompt.add_argument("--token-ids", type=_token_ids, metavar="ID,ID,...", help="the prompt as token ids")
    generate.add_argument("--n", type=int, help="how many completions")
    generate.add_argument(
        "--logprobs", type=int, metavar="K", help="show log probabilities, and the K likeliest tokens'"
    )
    chat = commands.add_parser("chat", parents=[common], help="talk with a model, line by line")
    chat.add_argument("--system", help="what the model is told first")
    add_admin_commands(commands)
    for command in (generate, chat):
        _add_sampling(command)
    return parser.parse_args(arguments)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="the model's name; can be left out if there is only one")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="give up after so long")
    for name, kind, text in _NUMBERS:
        parser.add_argument(f"--{name}", type=kind, metavar="N" if kind is int else "X", help=text)
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end at this text (repeatable)")
    parser.add_argument(
        "--stop-token-ids", type=_token_ids, default=[], metavar="ID,ID,...", help="end at one of these tokens"
    )
    parser.add_argument(
        "--logit-bias",
        type=_bias,
        action="append",
        default=[],
        metavar="ID=X",
        help="add to a token's logit (repeatable)",
    )
    parser.add_argument("--ignore-eos", action="store_true", default=None, help="go on after the end of sequence")


def sampling_params(options: argparse.Namespace) -> pb.SamplingParams:
    """The options that were given, as the protocol has them. Raises ValueError for numbers it cannot hold."""
    given = {
        field.name: value
        for field in pb.SamplingParams.DESCRIPTOR.fields
        if (value := getattr(options, field.name, None)) is not None
    }
    return pb.SamplingParams(**(given | {"logit_bias": dict(options.logit_bias)}))


def _token_ids(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _bias(text: str) -> tuple[int, float]:
    token_id, _, value = text.partition("=")
    return int(token_id), float(value)

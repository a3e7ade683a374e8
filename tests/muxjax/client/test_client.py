"""The command-line client, as a process of its own, against a server in this one."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from muxjax.client.__main__ import main
from muxjax.client.options import parse_arguments
from muxjax.serving.unit import RefusedError
from tests.serving.frontends.echo import Echo, EchoUnit, serve

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "muxjax.client"]


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(EchoUnit()) as running:
        yield running


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    code = main([*arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("command", "address"),
    [
        ("models", "127.0.0.1:50051"),
        ("status", "127.0.0.1:50051"),
        ("generate --prompt a", "127.0.0.1:50051"),
        ("chat", "127.0.0.1:50051"),
        ("load a demo:code", "127.0.0.1:50052"),
        ("unload a", "127.0.0.1:50052"),
        ("set-rate a 2", "127.0.0.1:50052"),
    ],
)
def test_a_command_goes_to_its_own_port_by_default(command: str, address: str) -> None:
    assert parse_arguments(command.split()).address == address


def test_generate_prints_the_text_alone(echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "echo", "--prompt", "héllo ", "--max-tokens", "12", "--temperature", "0"]
    assert run(capsys, "generate", "--address", echo.address, *options) == (0, "héllo héllo \n", "")


def test_generate_as_a_process_reads_its_prompt_from_standard_input(echo: Echo) -> None:
    command = [*COMMAND, "generate", "--address", echo.address, "--model", "echo", "--prompt", "-", "--max-tokens", "5"]
    done = subprocess.run(command, input="ab", capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ababa\n", "")


def test_every_sampling_option_reaches_the_server(echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    submit = echo.unit.submit
    echo.unit.submit = lambda request, deliver: (seen.append(request), submit(request, deliver))[1]
    options = (
        "--max-tokens 2 --min-tokens 1 --temperature 0.5 --top-k 5 --top-p 0.9 --min-p 0.1 --repetition-penalty 1.1 "
        "--presence-penalty 0.2 --frequency-penalty -0.3 --seed 7 --stop x --stop yy --stop-token-ids 3,4 "
        "--logit-bias 5=-1.5 --ignore-eos --n 1 --logprobs 2"
    )
    code, out, _ = run(
        capsys, "generate", "--address", echo.address, "--model", "ids", "--token-ids", "65,66", *options.split()
    )
    assert code == 2  # "ids" has no tokenizer for stop strings: refused by name, and so known to have arrived
    code, out, _ = run(
        capsys, "generate", "--address", echo.address, "--model", "echo", "--token-ids", "65,66", *options.split()
    )
    del echo.unit.submit
    assert code == 0
    assert out.splitlines()[0] == "AB"
    (request,) = seen
    sampling = request.sampling
    assert request.prompt_token_ids == (65, 66)
    assert (sampling.max_tokens, sampling.min_tokens, sampling.seed, sampling.n) == (2, 1, 7, 1)
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0.5, 5, 0.9, 0.1)
    assert (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (1.1, 0.2, -0.3)
    assert (sampling.stop, sampling.stop_token_ids, sampling.logit_bias) == (("x", "yy"), (3, 4), {5: -1.5})
    assert (sampling.ignore_eos, sampling.logprobs) == (True, 2)


def test_several_completions_come_one_after_another(echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "echo", "--prompt", "xy", "--max-tokens", "3", "--n", "2"]
    code, out, _ = run(capsys, "generate", "--address", echo.address, *options)
    assert (code, out) == (0, "--- 1 of 2\nxyx\n--- 2 of 2\nxyx\n")


def test_logprobs_are_a_table_below_the_text(echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "echo", "--prompt", "a", "--max-tokens", "2", "--logprobs", "1"]
    code, out, _ = run(capsys, "generate", "--address", echo.address, *options)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["aa"],
        ["token", "logprob", "likeliest"],
        ["97", "-0.500", "0:", "-1.000"],
        ["97", "-0.500", "0:", "-1.000"],
    ]


def test_chat_answers_line_by_line_and_remembers(echo: Echo) -> None:
    command = [*COMMAND, "chat", "--address", echo.address, "--model", "echo", "--system", "s", "--max-tokens", "40"]
    done = subprocess.run(command, input="a\n\nb\n", capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    first = ("<system>s<user>a" * 3)[:40]
    second = f"<system>s<user>a<assistant>{first}<user>b"[:40]
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{first}\n{second}\n", "")


def test_models_and_status_are_tables(echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "--address", echo.address)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["model", "state", "prompts", "context", "vocabulary"],
        ["echo", "ready", "text", "100,000", "1,114,112"],
        ["ids", "ready", "token", "ids", "64", "1,114,112"],
        ["late", "loading"],
        ["broken", "failed"],
        ["broken", "failed:", "weights/", "is", "truncated"],
    ]
    code, out, _ = run(capsys, "status", "--address", echo.address)
    assert code == 0
    assert out.splitlines()[0].startswith("pool: 0 of 1,000 head blocks used, fairness gap 0.250; 42 steps; up 0 min")
    assert ["echo", "ready", "0", "0", "0", "500", "3", "1,000", "2,000"] in [line.split() for line in out.splitlines()]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--model", "nobody", "--prompt", "a"], 2, "no model 'nobody' here; the models are: echo, ids, late, broken"),
        (["--model", "late", "--prompt", "a"], 3, "model 'late' is not ready (loading): try again soon"),
        (["--model", "echo", "--prompt", "a", "--top-p", "7"], 2, "top_p: is 7.0; it must lie between 1e-06 and 1"),
        (["--model", "echo", "--prompt", "a", "--temperature", "nan"], 2, "temperature: is nan; "),
        (["--model", "echo", "--prompt", ""], 2, "prompt: is empty: send some text"),
        (["--model", "echo", "--prompt", "a", "--seed", "-1"], 2, "Value out of range: -1"),
        (["--prompt", "a"], 2, "there are several models: choose one with --model (echo, ids, late, broken)"),
        (["--model", "echo", "--prompt", "a", "--timeout", "0.2"], 4, "the time ran out"),
    ],
)
def test_errors_are_one_clear_line(
    echo: Echo, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    result, _, err = run(capsys, "generate", "--address", echo.address, *options)
    assert result == code
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_a_refusal_says_when_to_try_again(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(EchoUnit(refuse_with=RefusedError("echo's queue is full", retry_after=2.5))) as echo:
        result = run(capsys, "generate", "--address", echo.address, "--model", "echo", "--prompt", "a")
    assert result == (4, "", "error: echo's queue is full; try again in 3 s\n")


def test_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "models", "--address", "127.0.0.1:9") == (
        3,
        "",
        "error: no server answers at 127.0.0.1:9: start one with `python -m muxjax.serve`, or give its --address\n",
    )


def test_ctrl_c_ends_the_client_and_aborts_its_request(echo: Echo) -> None:
    command = [*COMMAND, "generate", "--address", echo.address, "--model", "echo", "--prompt", "abc"]
    aborted = len(echo.unit.aborted)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as client:
        assert client.stdout is not None
        assert client.stdout.read(10) == "abcabcabca"
        client.send_signal(signal.SIGINT)
        reader = threading.Thread(target=client.stdout.read)
        reader.start()
        assert client.wait(10) == 130
        reader.join()
        assert client.stderr is not None
        assert client.stderr.read() == ""
    limit = time.monotonic() + 5
    while len(echo.unit.aborted) == aborted:
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_closed_pipe_ends_the_client_quietly(echo: Echo) -> None:
    client = " ".join([*COMMAND, "generate", "--address", echo.address, "--model", "echo", "--prompt", "abc"])
    done = subprocess.run(
        ["bash", "-c", f"{client} | head -c 5"], capture_output=True, text=True, cwd=ROOT, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("abcab", "")


def test_text_that_the_terminal_cannot_show_is_replaced(echo: Echo) -> None:
    command = [*COMMAND, "generate", "--address", echo.address, "--model", "echo", "--prompt", "é", "--max-tokens", "2"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"??\n", b"")

"""The official client for Node, unmodified, against a running server."""

import json
from pathlib import Path

from tests.serving.frontends.clients import environment, output_of
from tests.serving.frontends.echo import EchoUnit, serve

SCRIPT = Path(__file__).parent / "clients/node/client.mjs"


def test_it_lists_completes_chats_streams_fails_and_leaves() -> None:
    folder = environment("node")
    with serve(EchoUnit()) as echo:
        # Read from standard input, a script finds the packages of the folder that it runs in.
        command = ["node", "--input-type=module", "-", echo.url]
        found = json.loads(output_of(command, cwd=folder, stdin=SCRIPT.read_text()))
        echo.eventually(lambda: echo.service.num_requests == 0 and len(echo.unit.aborted) == 1)
    assert found == {
        "models": ["echo", "ids"],
        "completion": "héllo 🎈hé",
        "tokens": list("héllo 🎈hé"),
        "ids": [65, 66, 65],
        "chat": ["<user>hi", "<user>hi"],
        "streamed": "<user>hi<user>hi",
        "usage": {"prompt_tokens": 8, "completion_tokens": 16, "total_tokens": 24},
        "helper": "<user>hi",
        "failures": [
            ["NotFoundError", 404, "model_not_found", None],
            ["BadRequestError", 400, "invalid_value", "temperature"],
            ["InternalServerError", 503, "model_not_ready", None],
        ],
    }

"""The log, where whoever reads it is slow, or does not."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from muxjax.logs import BackgroundHandler, JsonFormatter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Read and write ends."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def logger_of(handler: BackgroundHandler) -> logging.Logger:
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger


def test_every_line_is_written_by_the_time_the_handler_is_closed(pipe: tuple[int, int]) -> None:
    with closing(BackgroundHandler(pipe[1])) as handler:
        logger = logger_of(handler)
        for number in range(100):
            logger.info("line %d \ud800", number)
    lines = os.read(pipe[0], 65_536).splitlines()
    assert [json.loads(line)["message"] for line in lines] == [f"line {number} \ud800" for number in range(100)]


def test_who_logs_does_not_wait_for_a_reader_and_what_is_dropped_is_told(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with closing(BackgroundHandler(write, room=10)) as handler:
        logger = logger_of(handler)
        for _ in range(100):
            logger.info("x" * 10_000)  # the pipe holds 64 KiB
        received = bytearray()

        def drain() -> None:
            while b"dropped" not in received:
                received.extend(os.read(read, 65_536))

        reader = threading.Thread(target=drain)
        reader.start()
        reader.join(20)
        told = next(json.loads(line)["message"] for line in received.splitlines() if b"dropped" in line)
    assert 75 <= int(told.split()[0]) < 100

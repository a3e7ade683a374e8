"""Writes that a client does not read end; everything else goes on."""

import asyncio
from contextlib import closing

import pytest

from muxjax.serving.frontends.patience import Patience
from muxjax.serving.frontends.stream import ClientTooSlow


def test_a_write_that_waits_too_long_is_ended_and_many_that_do_not_are_not() -> None:
    async def run() -> None:
        with closing(Patience(0.2)) as patience:
            for _ in range(30):  # longer than one may wait, together
                await patience.write(asyncio.sleep(0.01))
            with pytest.raises(ClientTooSlow, match=r"nothing was read for 0\.2 s"):
                await patience.write(asyncio.Event().wait())
            await asyncio.sleep(0)  # the task itself is not cancelled

    asyncio.run(run())


def test_time_between_writes_does_not_count() -> None:
    async def run() -> None:
        with closing(Patience(0.05)) as patience:
            await patience.write(asyncio.sleep(0))
            await asyncio.sleep(0.2)
            await patience.write(asyncio.sleep(0))

    asyncio.run(run())


def test_a_write_that_others_cancel_is_cancelled() -> None:
    async def run() -> None:
        with closing(Patience(60)) as patience:
            task = asyncio.create_task(patience.write(asyncio.Event().wait()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())

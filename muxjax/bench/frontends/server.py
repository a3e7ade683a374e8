"""`python -m muxjax.bench.frontends.server RATE STREAMS`: all frontends before a unit that costs nothing, on one core.

Prints the addresses as a line of JSON, and serves until it is ended.
"""

import asyncio
import json
import os
import sys
import threading

from muxjax.bench.frontends.unit import ENDPOINT, MODEL, FreeUnit
from muxjax.serving.frontends.access import AccessControl
from muxjax.serving.frontends.grpc.server import GrpcServer
from muxjax.serving.frontends.http.server import HttpServer
from muxjax.serving.frontends.service import Service
from muxjax.serving.progress import LLMState, Progress


async def serve(rate: float, streams: int) -> None:
    """Serve for ever."""
    unit = FreeUnit(rate, streams)
    service = Service(unit, [MODEL])
    grpc, http = GrpcServer(service, AccessControl(), port=0), HttpServer(service, AccessControl(), port=0)
    progress = Progress(MODEL, LLMState.READY, endpoint=ENDPOINT)
    service.update(progress)
    grpc.update(progress)
    threading.Thread(target=unit.run, daemon=True).start()
    await grpc.start()
    await http.start()
    print(json.dumps({"grpc": grpc.address, "http": http.address}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(serve(float(sys.argv[1]), int(sys.argv[2])))

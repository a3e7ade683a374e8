"""Take docs/images/ui.png anew: the page `/ui`, while three models serve more requests for code than its rate promises.

Usage: python -m benchmarks.page_screenshot [FILE]     (takes a minute; needs chromium)
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "ui.png"
SIZE = {"width": 1280, "height": 720}
SECONDS = 60.0  # as long as the graphs are
CONFIG = """
llms:
  code: {source: 'demo:code', max_sequences: 64, slo: {ttft: 4, tpot: 0.08}}
  prose: {source: 'demo:prose', slo: {ttft: 4, tpot: 0.08}}
  arithmetic: {source: 'demo:arithmetic', slo: {ttft: 1, tpot: 0.08}}
pool: {memory: 40MiB}
"""
REQUESTS = {
    "code": (36, "def read_lines(path):\n    with open(path) as file:\n        return", 160),
    "prose": (4, "The function returns", 160),
    "arithmetic": (4, "123+456=", 8),
}
"""Of each LLM: how many run or wait at any time, their prompt, and their most tokens."""


def main() -> None:
    """Serve, send requests, and look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=PICTURE, metavar="FILE")
    file = parser.parse_args().file
    with serving() as url:
        asyncio.run(take(file, url))
    print(file)


@contextmanager
def serving() -> Iterator[str]:
    """The URL of a server whose LLMs are ready."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write(CONFIG)
        config.flush()
        command = [sys.executable, "-m", "muxjax.serve", config.name, "--port", "0", "--http-port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            try:
                events = map(json.loads, server.stdout or ())
                address = next(event["http_address"] for event in events if event["event"] == "start")
                next(event for event in events if event["event"] == "serving")
                yield f"http://{address}"
            finally:
                server.kill()


async def take(file: Path, url: str) -> None:
    """The picture, after a minute of load."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        load = [
            asyncio.create_task(ask_for_ever(session, url, model, prompt, max_tokens))
            for model, (number, prompt, max_tokens) in REQUESTS.items()
            for _ in range(number)
        ]
        await asyncio.to_thread(picture, file, url)
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)


async def ask_for_ever(session: aiohttp.ClientSession, url: str, model: str, prompt: str, max_tokens: int) -> None:
    """One request after another."""
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens}
    while True:
        async with session.post(f"{url}/v1/completions", json=body) as answer:
            await answer.read()


def picture(file: Path, url: str) -> None:
    """Watch the page for a minute, then take it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(f"{url}/ui")
        page.wait_for_timeout(1000 * SECONDS)
        page.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    main()

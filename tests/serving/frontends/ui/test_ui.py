"""What `/ui` serves: static files behind a strict policy, and one JSON document a second."""

import re
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import httpx2 as httpx
import pytest

import muxjax.serving.frontends.ui as ui
from muxjax.serving.frontends.access import AccessControl, Caller, digest
from tests.serving.frontends.echo import Echo, serve
from tests.serving.frontends.ui.units import BUSY, ShownUnit

STATIC = Path(ui.__path__[0]) / "static"
FILES = sorted(path.name for path in STATIC.iterdir())


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(ShownUnit()) as running:
        yield running


@pytest.fixture
def client(echo: Echo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=echo.url) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_the_page_is_found_with_and_without_its_path(client: httpx.Client, path: str) -> None:
    redirect = client.get(path)
    assert (redirect.status_code, redirect.headers["location"]) == (308, "ui/")
    assert client.get(path, follow_redirects=True).content == (STATIC / "index.html").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_files_come_with_their_type_and_may_load_nothing_from_elsewhere(client: httpx.Client, name: str) -> None:
    response = client.get(f"/ui/{name}")
    assert response.content == (STATIC / name).read_bytes()
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert response.headers["content-type"] == f"{kinds[Path(name).suffix]}; charset=utf-8"
    assert response.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert response.headers["x-content-type-options"] == "nosniff"
    external = re.sub(r'"http://www\.w3\.org/2000/svg"', "", response.text)
    assert "//" not in re.sub(r"(?m)(^|\s)//.*$", "", external), "an address of elsewhere"


def test_the_page_is_small() -> None:
    assert sum((STATIC / name).stat().st_size for name in FILES) < 60_000


@pytest.mark.parametrize("path", ["/ui/nothing", "/ui/../ui/status.py", "/ui/..%2fstatus.py", "/ui/static/main.js"])
def test_nothing_else_is_there(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_status_is_the_units_with_a_minute_of_history(echo: Echo, client: httpx.Client) -> None:
    response = client.get("/ui/status.json")
    assert response.headers["cache-control"] == "no-store"
    overview = response.json()
    assert overview["version"] == version("muxjax")
    assert 0 <= overview["uptime_seconds"] < 600
    unit = overview["unit"]
    assert (unit["blocks_total"], unit["blocks_free"], unit["steps"], unit["busy"]) == (1000, 450, 4321, 0.5)
    busy, idle, broken = unit["llms"]
    assert (busy["name"], busy["blocks_quota"], busy["blocks_entitled"], busy["errors"]) == ("busy", 600, 500, 1)
    assert busy["ttft"] == {"p50": 0.089, "p90": 0.161, "p99": 0.357}
    assert busy["slo"] == {"ttft": 0.15, "tpot": 0.01}
    assert (idle["ttft"], idle["slo"], idle["slo_attainment"]) == (None, None, None)
    assert (broken["state"], broken["error"]) == ("failed", "weights/ is truncated")
    assert overview["history"].keys() == {"busy", "idle", "broken"}
    assert overview["history"]["busy"]["waiting"][-1] == 7


def test_viewers_cost_the_unit_nothing(echo: Echo, client: httpx.Client) -> None:
    assert isinstance(echo.unit, ShownUnit)
    started, before = time.monotonic(), echo.unit.asked
    for _ in range(200):
        client.get("/ui/status.json")
    assert echo.unit.asked - before <= time.monotonic() - started + 1


def test_a_unit_that_does_not_answer_leaves_the_last_status() -> None:
    class Silent(ShownUnit):
        def status(self) -> object:  # type: ignore[override]
            if self.asked:
                self.asked += 1
                raise RuntimeError("gone")
            return super().status()

    unit = Silent()
    with serve(unit) as echo:
        while unit.asked < 3:
            time.sleep(0.05)
        assert httpx.get(f"{echo.url}/ui/status.json").json()["unit"]["steps"] == 4321


def test_keys_are_asked_for_the_figures_and_not_for_the_page() -> None:
    callers = {"all-keys": Caller("all"), "one-key": Caller("one", models=frozenset({BUSY.name}))}
    access = AccessControl([(digest(key), caller) for key, caller in callers.items()])
    with serve(ShownUnit(), access) as echo:
        assert all(httpx.get(f"{echo.url}/ui/{name}").status_code == 200 for name in ("", *FILES))
        assert httpx.get(f"{echo.url}/ui/status.json").status_code == 401
        seen = {}
        for key in callers:
            answer = httpx.get(f"{echo.url}/ui/status.json", headers={"Authorization": f"Bearer {key}"}).json()
            assert answer["unit"]["blocks_free"] == 450
            seen[key] = [llm["name"] for llm in answer["unit"]["llms"]]
            assert list(answer["history"]) == seen[key]
        assert seen == {"all-keys": ["busy", "idle", "broken"], "one-key": ["busy"]}

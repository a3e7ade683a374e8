"""The page `/ui` in a real browser: what it shows, live, to whom, and what it never does."""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from muxjax.serving.frontends.access import AccessControl, Caller, digest
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from tests.serving.frontends.echo import EchoUnit, serve
from tests.serving.frontends.ui.browser import CHROMIUM, chromium
from tests.serving.frontends.ui.units import BUSY, COMPILING, FAILED, IDLE, ShownUnit, many, unit_status

DASH = "\N{EN DASH}"
WIDE = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 800}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


type Show = Callable[..., Page]


@pytest.fixture
def show(browser: Browser) -> Iterator[Show]:
    """Opens the page of a server with this unit; no such page may complain, or ask anyone but its server."""
    troubles: list[str] = []
    with contextlib.ExitStack() as stack:

        def show(unit: ShownUnit, **options: Any) -> Page:
            echo = stack.enter_context(serve(unit))
            page = stack.enter_context(browser.new_context(**{"viewport": WIDE, **options})).new_page()
            page.on("console", lambda message: troubles.append(message.text))
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on("dialog", lambda dialog: troubles.append(dialog.message))
            page.on("request", lambda asked: asked.url.startswith(f"{echo.url}/ui") or troubles.append(asked.url))
            page.goto(f"{echo.url}/ui")
            expect(page.locator("#connection")).to_have_text("live")
            return page

        yield show
    assert not troubles


def row(page: Page, name: str) -> Locator:
    """The LLM's row of the table."""
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=re.compile(re.escape(name))))


def texts(row: Locator) -> list[str]:
    """What the visible cells say."""
    return [" ".join(text.split()) for text in row.get_by_role("cell").all_inner_texts()]


def test_each_llm_has_a_row_with_all_its_figures(show: Show) -> None:
    page = show(ShownUnit())
    assert row(page, "busy").get_by_role("rowheader").inner_text().split("\n") == ["busy", "ready · 1 error"]
    assert texts(row(page, "busy")) == [
        "3 · 7 2 preempted",
        "550 of 600 borrows 100",
        "25% · 75%",
        "123 1,234 in, 56,789 out",
        "89 · 161 · 357 ms p90 > 150 ms",
        "8.5 · 9.2 · 10.0 ms ≤ 10 ms",
        "99.9%",
    ]
    assert texts(row(page, "idle")) == ["0 · 0", "0 of 300 lends 100", "0% · 0%", "0", DASH, DASH, f"{DASH} none set"]
    assert texts(row(page, "broken")) == ["weights/ is truncated"]


def test_an_llm_that_compiles_says_how_far_it_is(show: Show) -> None:
    page = show(ShownUnit(shown=unit_status(BUSY, COMPILING)))
    assert row(page, "soon").get_by_role("rowheader").inner_text().split("\n") == ["soon", "compiling 1/3"]


def test_what_missed_its_target_is_marked(show: Show) -> None:
    page = show(ShownUnit())
    expect(row(page, "busy").locator(".note.missed")).to_have_text(["p90 > 150 ms"])


def test_all_llms_together(show: Show) -> None:
    page = show(ShownUnit())
    totals = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))
    assert totals.pop("Up")
    assert totals == {
        "Tokens/s": "123",
        "Running": "3",
        "Waiting": "7",
        "Lowest SLO attained": "99.9%",
        "Fairness gap": "0.13",
        "Steps": "4,321",
    }
    assert page.locator("#summary").inner_text() == "3 LLMs: 2 ready, 1 failed"


def widths(page: Page, bar: str) -> list[float]:
    """The widths of a bar's visible parts, as shares of it."""
    boxes = [part.bounding_box() for part in page.locator(f"{bar} > div:visible").all()]
    assert all(boxes)
    total = sum(box["width"] for box in boxes if box)
    return [round(box["width"] / total, 2) for box in boxes if box]


def test_the_pool_is_divided_by_quota_and_what_is_borrowed_is_striped(show: Show) -> None:
    page = show(ShownUnit())
    page.wait_for_timeout(500)  # the widths glide to their places
    assert widths(page, "#pool") == [0.6, 0.3, 0.1]
    parts = {name: page.locator(f"#pool [data-llm=busy] .{name}").bounding_box() for name in ("held", "borrowed")}
    assert parts["held"] is not None
    assert parts["borrowed"] is not None
    assert round(parts["held"]["width"] / parts["borrowed"]["width"]) == 10
    label = page.locator("#pool").get_attribute("aria-label")
    assert label is not None
    assert label.startswith("550 of 1,000 head blocks are held. busy holds 550 of its quota of 600; idle holds 0 ")


def test_quotas_that_promise_too_much_leave_what_is_held(show: Show) -> None:
    llms = (replace(BUSY, blocks_quota=900), replace(IDLE, blocks_quota=900, blocks_used=200))
    page = show(ShownUnit(shown=unit_status(*llms)))
    page.wait_for_timeout(500)
    assert widths(page, "#pool") == [0.55, 0.2, 0.25]


def test_the_steps_time_is_divided_among_llms_and_idleness(show: Show) -> None:
    page = show(ShownUnit())
    page.wait_for_timeout(500)
    assert widths(page, "#steps") == [0.5, 0.5]
    assert "busy prefill 25%, decode 75%" in (page.locator("#steps").get_attribute("aria-label") or "")
    assert page.locator("#steps-figures").inner_text() == "steps ran in 50% of the last 10 s"


def test_it_follows_a_request_while_it_runs(browser: Browser) -> None:
    with serve(EchoUnit(step_seconds=0.002)) as echo, browser.new_page() as page, echo.stub() as stub:
        page.goto(f"{echo.url}/ui/")
        requests = row(page, "echo").locator("[data-label=Requests] .figures")
        expect(requests).to_have_text("0 · 0")
        sampling = pb.SamplingParams(max_tokens=100_000 - 2)
        call = stub.Generate(pb.GenerateRequest(model="echo", text="hi", sampling=sampling))
        next(call)
        expect(requests).to_have_text("1 · 0")
        expect(page.locator("dd").nth(1)).to_have_text("1")
        call.cancel()
        expect(requests).to_have_text("0 · 0")


def test_llms_come_and_go(show: Show) -> None:
    unit = ShownUnit()
    page = show(unit)
    unit.shown = unit_status(replace(IDLE, name="new"), replace(BUSY, running=1))
    expect(page.get_by_role("rowheader")).to_have_text(["newready", "busyready · 1 error"])
    expect(row(page, "busy").locator("[data-label=Requests] .figures")).to_have_text("1 · 7")


def test_a_name_is_never_markup(show: Show) -> None:
    name = """<img src=x onerror="alert(1)"><script>alert(2)</script>'"&amp;"""
    llms = (replace(BUSY, name=name), replace(FAILED, name="__proto__", error=name))
    page = show(ShownUnit(shown=unit_status(*llms)))
    assert page.locator("tbody .name").all_inner_texts() == [name, "__proto__"]
    assert page.locator("tbody .error").last.inner_text() == name
    assert page.locator("main img, main script").count() == 0


def test_before_anything_ran_it_says_so(show: Show) -> None:
    unit = ShownUnit(shown=unit_status(IDLE, steps=0, busy=0.0))
    page = show(unit)
    expect(page.locator("#empty")).to_have_text("Nothing has run yet. Send a request, and watch it here.")
    unit.shown = unit_status(BUSY)
    expect(page.locator("#empty")).to_be_hidden()


def test_a_lost_connection_is_told_and_comes_back(browser: Browser) -> None:
    with serve(ShownUnit()) as echo, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{echo.url}/ui/")
        expect(page.locator("#connection")).to_have_text("live")
        context.set_offline(True)
        expect(page.locator("#connection")).to_have_text(re.compile(r"connection lost · last seen \d+ s ago"))
        assert page.locator("#connection").get_attribute("role") == "status"
        assert row(page, "busy").is_visible()
        context.set_offline(False)
        expect(page.locator("#connection")).to_have_text("live")


def test_a_server_with_keys_is_asked_with_the_viewers(browser: Browser) -> None:
    callers = [(digest("all"), Caller("all")), (digest("one"), Caller("one", models=frozenset({"idle"})))]
    with serve(ShownUnit(), AccessControl(callers)) as echo, browser.new_page() as page:
        page.goto(f"{echo.url}/ui/")
        key = page.get_by_label("API key")
        expect(key).to_be_focused()
        expect(page.locator("main")).to_be_hidden()
        key.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-note")).to_have_text("The server does not know this key.")
        key.fill("one")
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("rowheader")).to_have_text(["idleready"])
        page.reload()
        expect(page.get_by_role("rowheader")).to_have_text(["idleready"])
        assert page.evaluate("localStorage.length") == 0
        assert "one" not in page.url


@pytest.mark.parametrize("width", [360, 800, 1440])
def test_many_llms_fit_any_screen(show: Show, width: int) -> None:
    page = show(ShownUnit(shown=many(24)), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for text in texts(row(page, "name-23-")):
        assert text
    clipped = "(nodes) => nodes.filter((node) => node.scrollWidth > node.clientWidth + 1).length"
    assert page.locator(".figures").evaluate_all(clipped) == 0


CONTRASTS = """
() => {
  const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return color.startsWith("rgb(") ? color : ground(node.parentElement);
  };
  const low = [];
  for (const node of document.querySelectorAll("body *")) {
    const speaks = [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.textContent.trim());
    if (!speaks || !node.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(rgb(ground(node)))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) low.push(`${node.tagName} ${node.className} ${node.textContent}: ${contrast}`);
  }
  return low;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(show: Show, scheme: str) -> None:
    page = show(ShownUnit(), color_scheme=scheme)
    assert page.evaluate(CONTRASTS) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(247, 247, 245)", "dark": "rgb(20, 22, 26)"}[scheme]


def test_it_can_be_read_without_seeing_it(show: Show) -> None:
    page = show(ShownUnit())
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1
    expect(page.get_by_role("table", name="Each LLM, and its last minute")).to_be_visible()
    assert page.get_by_role("columnheader").count() == 8
    assert page.get_by_role("rowheader").count() == 3
    for bar in page.get_by_role("img").all():
        assert bar.get_attribute("aria-label") or bar.get_attribute("alt") == ""
    assert page.locator("svg:not([aria-hidden=true]), img:not([alt])").count() == 0
    page.set_viewport_size(PHONE)  # cards, which are still a table for those who listen
    assert page.get_by_role("rowheader").count() == 3
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the LLMs")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "llms"


def test_nothing_moves_for_those_who_asked_for_that(show: Show) -> None:
    page = show(ShownUnit(), reduced_motion="reduce")
    moving = "(nodes) => nodes.filter((node) => getComputedStyle(node).transitionDuration !== '0s').length"
    assert page.locator("*").evaluate_all(moving) == 0


def test_pointing_at_an_llm_dims_the_others(show: Show) -> None:
    page = show(ShownUnit())
    row(page, "busy").hover()
    expect(page.locator("main")).to_have_class("highlighting")
    expect(page.locator("#pool [data-llm=idle]")).to_have_css("opacity", "0.25")
    expect(page.locator("#pool [data-llm=busy]")).to_have_css("opacity", "1")

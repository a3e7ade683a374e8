"""The timeline of a real engine, read back: complete, nested, bounded, and of use even after a kill."""

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from muxjax.serving.engine import Engine
from muxjax.serving.plan import plan_unit
from muxjax.serving.scheduler.job import Job, JobKind
from muxjax.serving.trace import TraceWriter
from tests.serving.unit_under_test import Client, greedy, unit_spec, wait_until_ready, write_configs

Event = dict[str, Any]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    folder = tmp_path_factory.mktemp("trace")
    sources = write_configs(folder)
    engine = Engine(
        plan_unit(unit_spec({"small": sources["small"], "odd": sources["odd"]})),
        lambda _: None,
        TraceWriter(folder / "trace.json"),
    )
    engine.start()
    try:
        wait_until_ready(engine)
        client = Client(engine)
        for index in range(6):
            client.submit_prompt(f"r{index}", ["small", "odd"][index % 2], range(1, 80), greedy(10))
        client.wait()
    finally:
        engine.close()
    events: list[Event] = json.loads((folder / "trace.json").read_text())
    return events


def test_every_llm_has_a_track_for_each_phase_whose_jobs_do_not_overlap(events: list[Event]) -> None:
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert sorted(tracks.values()) == ["odd decode", "odd prefill", "small decode", "small prefill"]
    jobs = sorted((event for event in events if event["ph"] == "X"), key=lambda event: event["ts"])
    assert all(event["name"] == tracks[event["tid"]] for event in jobs)
    assert all(one["ts"] + one["dur"] <= two["ts"] + 1 for one, two in pairwise(jobs))
    prefilled = sum(event["args"]["tokens"] for event in jobs if event["name"].endswith("prefill"))
    assert prefilled == 6 * 79


def test_requests_are_spans_with_their_phases_inside(events: list[Event]) -> None:
    spans: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] in "be":
            spans[event["id"]].append(event)
    assert sorted(spans) == [f"r{index}/0" for index in range(6)]
    for span in spans.values():
        names = [event["name"] for event in span if event["ph"] == "b"]
        assert names[1:] in (["queue", "prefill", "decode"], ["prefill", "decode"])
        assert len(names) == len(span) / 2
        begin, end = span[0], span[1]
        assert begin["args"] | {"preemptions": 0} == {
            "model": begin["name"],
            "prompt_tokens": 79,
            "tokens": 10,
            "reason": "length",
            "preemptions": 0,
        }
        assert all(begin["ts"] <= event["ts"] <= end["ts"] for event in span)


def test_counters_follow_the_blocks_down_to_none(events: list[Event]) -> None:
    counters = [event["args"] for event in events if event["ph"] == "C"]
    assert max(counter["small"] for counter in counters) > 0
    assert counters[-1] == {"small": 0, "odd": 0}


def job(llm: str = "a") -> Job:
    return Job(llm, JobKind.DECODE, ())


def test_a_file_whose_writer_was_killed_lacks_only_its_end(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    trace = TraceWriter(path)
    for index in range(2000):
        trace.job(job(), float(index), index + 0.5)
    text = path.read_text()
    assert text.endswith(",\n")
    assert len(json.loads(text.rstrip(",\n") + "]")) > 100


def test_a_full_file_is_put_aside_and_two_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    trace = TraceWriter(path, max_bytes=200_000)
    for index in range(10_000):
        trace.job(job(), float(index), index + 0.5)
    trace.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["trace.json", "trace.json.1"]
    for file in tmp_path.iterdir():
        assert file.stat().st_size < 300_000
        names = {event["name"] for event in json.loads(file.read_text())}
        assert {"process_name", "thread_name", "a decode"} <= names

"""Cases in processes of their own: whatever becomes of one, the others have their figures."""

import os
import time
from functools import partial

import pytest

from muxjax.bench.isolated import Case, Section, run_here, run_isolated


class JaxRuntimeError(Exception):
    """Stands for what JAX raises when a device fails; known by its name, so that no JAX is needed."""


def number(value):
    return {"value": value}


def fail(error):
    raise error


def process_id():
    return {"process": os.getpid()}


def section(*measures, seconds=60.0):
    return Section("parts", partial(cases_of, measures), seconds)


def cases_of(measures):
    for index, measure in enumerate(measures):
        yield Case({"index": index}, measure)


def test_figures_come_with_their_labels():
    [first, second] = run_isolated(section(partial(number, 1), partial(number, 2)), case_seconds=60)
    assert (first, second) == ({"index": 0, "value": 1}, {"index": 1, "value": 2})


def test_an_error_is_an_outcome():
    [failed, good] = run_isolated(section(partial(fail, ValueError("no\nsuch")), partial(number, 2)), case_seconds=60)
    assert failed == {"index": 0, "error": "ValueError: no"}
    assert good == {"index": 1, "value": 2}


def test_a_crash_and_a_hang_cost_only_their_own_case():
    crash, hang = partial(os._exit, 7), partial(time.sleep, 1000)
    outcomes = list(run_isolated(section(crash, hang, partial(number, 3)), case_seconds=5))
    assert [outcome.get("error") for outcome in outcomes] == [
        "its process ended with exit code 7", "took more than 5 s", None,
    ]  # fmt: skip
    assert outcomes[2]["value"] == 3


def test_a_device_that_failed_gets_a_new_process():
    measures = (process_id, process_id, partial(fail, JaxRuntimeError("illegal address")), process_id)
    before, same, failed, after = run_isolated(section(*measures), case_seconds=60)
    assert "illegal address" in failed["error"]
    assert before["process"] == same["process"] != after["process"]


def test_a_section_ends_when_its_time_does():
    started = time.monotonic()
    [outcome] = run_isolated(section(partial(time.sleep, 1000), partial(number, 2), seconds=3), case_seconds=1000)
    assert outcome == {"index": 0, "error": "there was no time left"}
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("run", [run_here, partial(run_isolated, case_seconds=60)])
def test_a_section_without_cases_has_no_outcomes(run):
    assert list(run(section())) == []


def cases_that_cannot_be_made():
    raise RuntimeError("no device")
    yield


def test_cases_that_cannot_be_made_are_one_outcome():
    [outcome] = run_isolated(Section("parts", cases_that_cannot_be_made, 60), case_seconds=60)
    assert "exit code 1" in outcome["error"]

"""The right program at the right time, without ever waiting for the compiler."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from muxjax.serving.executor.compiled import CompiledPrograms, ProgramKey
from muxjax.serving.scheduler.job import JobKind

BUCKETS = {JobKind.DECODE: (1, 2, 4, 8), JobKind.PREFILL: (16, 64)}


@pytest.fixture
def background():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_the_largest_of_each_kind_are_needed(background):
    programs = CompiledPrograms(lambda key: key, BUCKETS, background)
    assert programs.needed_keys() == [ProgramKey(JobKind.DECODE, 8), ProgramKey(JobKind.PREFILL, 64)]


def test_a_larger_program_serves_until_the_best_one_is_compiled(background):
    compiled = []
    gate = threading.Event()
    background.submit(gate.wait)
    programs = CompiledPrograms(lambda key: compiled.append(key) or f"decode-{key.size}", BUCKETS, background)
    programs.compile(ProgramKey(JobKind.DECODE, 8))
    for _ in range(3):
        assert programs.find(JobKind.DECODE, 3) == (8, "decode-8")
    gate.set()
    background.shutdown(wait=True)
    assert programs.find(JobKind.DECODE, 3) == (4, "decode-4")
    assert compiled == [ProgramKey(JobKind.DECODE, 8), ProgramKey(JobKind.DECODE, 4)]


def test_a_program_that_does_not_compile_is_asked_for_once_and_replaced_by_a_larger_one(background, caplog):
    def compile_program(key: ProgramKey) -> str:
        if key.size == 4:
            raise RuntimeError("no such instruction")
        return f"decode-{key.size}"

    programs = CompiledPrograms(compile_program, BUCKETS, background)
    programs.compile(ProgramKey(JobKind.DECODE, 8))
    for _ in range(3):
        assert programs.find(JobKind.DECODE, 4) == (8, "decode-8")
    background.shutdown(wait=True)
    assert programs.find(JobKind.DECODE, 4) == (8, "decode-8")
    assert len([record for record in caplog.records if "no such instruction" in str(record.exc_info)]) == 1


def test_without_any_program_large_enough_the_caller_is_told(background):
    gate = threading.Event()
    background.submit(gate.wait)
    programs = CompiledPrograms(lambda key: key, BUCKETS, background)
    with pytest.raises(LookupError, match="compile the needed ones"):
        programs.find(JobKind.PREFILL, 20)
    gate.set()

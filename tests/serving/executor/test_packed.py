"""Which packed program runs a step, which are compiled, and which are kept."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from muxjax.serving.executor.packed import PackedKey, PackedPart, PackedPrograms


class AtOnce(ThreadPoolExecutor):
    """Runs what it is given before it returns."""

    def submit(self, fn, *args):
        future = Future()
        future.set_result(fn(*args))
        return future


def make_programs(capacity: int = 8) -> tuple[PackedPrograms[str], list[PackedKey]]:
    compiled: list[PackedKey] = []

    def compile_program(key: PackedKey) -> str:
        compiled.append(key)
        return f"program {len(compiled)}"

    return PackedPrograms(compile_program, AtOnce(), capacity), compiled


def decodes(a: int, b: int) -> PackedKey:
    return PackedPart("a", decode=a), PackedPart("b", decode=b)


def test_a_program_is_compiled_when_it_is_first_wanted_and_kept():
    programs, compiled = make_programs()
    assert [programs.find(decodes(2, 8)) for _ in range(3)] == [(decodes(2, 8), "program 1")] * 3
    assert compiled == [decodes(2, 8)]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_no_step_waits_for_the_compiler_and_one_program_is_compiled_at_a_time(gate):
    compiled = []

    def compile_program(key: PackedKey) -> str:
        assert gate.wait(20)
        compiled.append(key)
        return "program"

    with ThreadPoolExecutor(1) as background:
        programs = PackedPrograms(compile_program, background)
        assert programs.find(decodes(2, 2)) is None
        assert programs.find(decodes(2, 8)) is None
        assert programs.find(decodes(2, 2)) is None
        gate.set()
    assert compiled == [decodes(2, 2)]
    assert programs.find(decodes(2, 2)) == (decodes(2, 2), "program")


def test_meanwhile_a_program_with_larger_batches_of_the_same_jobs_runs(gate):
    blocked = threading.Event()

    def compile_program(key: PackedKey) -> str:
        assert not blocked.is_set() or gate.wait(20)
        return str(key[0].decode)

    with ThreadPoolExecutor(1) as background:
        programs = PackedPrograms(compile_program, background)
        for key in (decodes(32, 32), decodes(8, 8)):
            while key not in programs.keys:
                programs.find(key)
        blocked.set()
        assert programs.find(decodes(2, 8)) == (decodes(8, 8), "8")
        alike = PackedPart("a", decode=2, prefill=16), PackedPart("b", decode=2)
        others = [alike, (PackedPart("a", decode=2), PackedPart("c", decode=2)), (PackedPart("a", decode=2),)]
        assert [programs.find(key) for key in others] == [None] * 3
        assert programs.find((PackedPart("a", decode=64), PackedPart("b", decode=2))) is None
        gate.set()


def test_the_chunk_of_a_prefill_is_never_padded_further():
    programs, _ = make_programs()
    large = PackedPart("a", prefill=64), PackedPart("b", decode=8)
    small = PackedPart("a", prefill=16), PackedPart("b", decode=8)
    programs.find(large)
    assert programs.find(small) == (small, "program 2")


def test_the_least_recently_used_program_makes_place():
    programs, compiled = make_programs(capacity=2)
    for batch in (1, 2):
        programs.find(decodes(batch, 1))
    programs.find(decodes(1, 1))
    programs.find((PackedPart("a", decode=1, prefill=16),))
    assert programs.keys == (decodes(1, 1), (PackedPart("a", decode=1, prefill=16),))
    assert len(compiled) == 3


def test_what_does_not_compile_is_reported_once_and_never_tried_again(caplog):
    tried = []

    def compile_program(key: PackedKey) -> str:
        tried.append(key)
        if key == decodes(2, 2):
            raise RuntimeError("ptxas is out of registers")
        return "program"

    programs = PackedPrograms(compile_program, AtOnce())
    assert programs.find(decodes(8, 8)) is not None
    assert [programs.find(decodes(2, 2)) for _ in range(3)] == [None] * 3
    assert tried == [decodes(8, 8), decodes(2, 2)]
    (record,) = caplog.records
    assert "a decode 2, b decode 2" in record.getMessage()
    assert "out of registers" in str(record.exc_info)
    assert programs.find(decodes(8, 8)) is not None, "others are packed as before"


def test_what_failed_on_the_device_is_forbidden():
    programs, compiled = make_programs()
    programs.find(decodes(2, 2))
    programs.forbid(decodes(2, 2))
    assert programs.find(decodes(2, 2)) is None
    assert compiled == [decodes(2, 2)]


def test_an_llm_that_is_unloaded_leaves_nothing_behind(gate):
    started = threading.Event()

    def compile_program(key: PackedKey) -> str:
        started.set()
        assert gate.wait(20)
        return "program"

    with ThreadPoolExecutor(1) as background:
        programs = PackedPrograms(compile_program, background)
        programs.find(decodes(2, 2))
        assert started.wait(20)
        programs.forget("b")
        gate.set()
    assert programs.keys == ()

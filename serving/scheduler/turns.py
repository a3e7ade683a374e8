"""Whose turn it is."""

from collections.abc import Iterable

from muxjax.serving.scheduler.job_starter import JobStarter, Shortage


class Turns:
    """LLMs take turns: who was served goes to the end, who was passed over keeps its place."""

    def __init__(self) -> None:
        self._served_at: dict[str, int] = {}
        self._count = 0

    def among(self, llms: Iterable[str]) -> list[str]:
        """The LLMs, the longest unserved first."""
        return sorted(llms, key=lambda llm: self._served_at.get(llm, 0))

    def served(self, llm: str) -> None:
        """Its turn is over."""
        self._count += 1
        self._served_at[llm] = self._count


def start_prefill_in_turn(
    starter: JobStarter, turns: Turns, now: float, gather: float = 0.0
) -> tuple[str, Shortage] | None:
    """If no prefill is in flight, start that of the next LLM that has one; return who waits for what, if anyone.

    An LLM short of slots or quota is passed over: only its own decodes can give it those, and it keeps its turn. For
    compute or the pool's blocks it waits, or it might wait for ever. Nothing passes who waits for compute. Who waits
    for blocks is passed only by prompts that were begun: they need none, and give theirs back only when they are done.

    While something decodes, an LLM's new prompts gather for so many seconds, or until they fill a prefill.
    """
    if starter.prefill_in_flight:
        return None
    waits: tuple[str, Shortage] | None = None
    reserved = 0
    for llm in turns.among(starter.queues):
        sequence = starter.queues[llm].next_prefill
        if sequence is None or (reserved and sequence.slot is None):
            continue
        if now - sequence.arrival < gather and starter.may_gather(llm, now):
            continue
        shortage = starter.prefill_shortage(llm)
        if shortage is None:
            starter.start_prefill(llm, now, reserved)
            turns.served(llm)
            break
        if shortage is Shortage.COMPUTE:
            return llm, shortage
        if shortage is Shortage.POOL:
            waits, reserved = (llm, shortage), starter.memory.blocks_to_admit(sequence)
    return waits


def start_decodes_in_turn(starter: JobStarter, turns: Turns, reserved: int = 0, *, passing: bool = False) -> None:
    """Start decodes, LLM by LLM, until one lacks compute: the next ones must not take what it waits for.

    With `passing` they may beside a prefill, as in MuxServe's code: more of the device is used, but an LLM with a large
    share may wait for as long as one prefill follows another. An LLM of which no sequence gets the page that it needs
    is passed over; `reserved` blocks stay free.
    """
    for llm in turns.among(starter.queues):
        if not starter.has_decode(llm):
            continue
        if starter.decode_lacks_compute(llm):
            if passing and starter.prefill_in_flight:
                continue
            return
        if starter.start_decode(llm, reserved):
            turns.served(llm)

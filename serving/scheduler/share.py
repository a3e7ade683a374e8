"""What one LLM may take of its unit."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LLMShare:
    """One LLM's claims and limits.

    Compute shares are fractions of the unit's compute that a job holds while it is in flight. They matter where jobs
    overlap (MuxServe's processes under MPS, and their simulation); a device that runs steps one after another leaves
    them at 0, and every job fits.

    Attributes:
        rate: its popularity, requests/s; only ratios between the LLMs of a unit matter.
        max_context: the most tokens of one sequence.
        max_sequences: how many sequences run at once, at most: its slots.
        max_waiting: how many sequences wait, at most.
        length_switch: a sequence that grows longer than this is computed again, once; None for never.
        ttft: seconds from a sequence's arrival to its first token, at most; None promises nothing.
        tpot: seconds between tokens, at most, on average over a sequence; None promises nothing.
        prefill_compute: what a prefill job holds.
        decode_compute: what a decode job holds.
    """

    rate: float
    max_context: int
    max_sequences: int = 32
    max_waiting: int = 1024
    length_switch: int | None = None
    ttft: float | None = None
    tpot: float | None = None
    prefill_compute: float = 0.0
    decode_compute: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate must be positive and finite, not {self.rate}")
        for name in ("max_context", "max_sequences", "max_waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("prefill_compute", "decode_compute"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a fraction of the unit's compute, not {getattr(self, name)}")

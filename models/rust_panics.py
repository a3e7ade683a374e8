"""Rust's panics, which reach Python as a BaseException and would end the thread that they are in."""

from collections.abc import Iterator
from contextlib import contextmanager

from muxjax.models.errors import ModelError


@contextmanager
def panics_reported() -> Iterator[None]:
    """What a library written in Rust panics of is a ModelError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a class that cannot be imported
            raise
        raise ModelError(f"the tokenizers library failed: {error}") from error

"""What is wrong with a configuration, in words for the person who wrote it."""

from collections.abc import Sequence
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Where a field stands: ("llms", "code", "rate")."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend.

    Attributes:
        path: the field; empty for the whole file.
        message: what is wrong and what to do, as the rest of a sentence about the field.
        line: where, counted from 1; None when it is nowhere in the file.
    """

    path: Path
    message: str
    line: int | None

    def describe(self, name: str) -> str:
        """The problem on one line, beginning as compilers' errors do."""
        place = name if self.line is None else f"{name}:{self.line}"
        field = ".".join(str(step) for step in self.path)
        return f"{place}: {field}: {self.message}" if field else f"{place}: {self.message}"


class ConfigurationError(Exception):
    """The configuration cannot be used; the message has a line for each problem.

    Attributes:
        problems: all of them, in the order of the file.
    """

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(problem.describe(name) for problem in self.problems))

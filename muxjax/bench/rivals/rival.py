"""What every rival can do."""

from abc import ABC, abstractmethod


class Rival(ABC):
    """An engine that completes a batch of prompts, all of one length, greedily."""

    @property
    @abstractmethod
    def versions(self) -> "dict[str, str]":
        """Of the packages that do the work."""

    @abstractmethod
    def generate(self, prompts: "list[list[int]]", max_tokens: int) -> "tuple[list[float], list[list[int]]]":
        """Complete every prompt by exactly max_tokens tokens.

        Returns:
            When each step's tokens were there, in seconds since the call, and each prompt's tokens.
        """

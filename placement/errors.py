"""What placement raises when its input cannot be used."""

from collections.abc import Iterable


class PlacementError(Exception):
    """An input that cannot be used; the message has a line for each thing that is wrong.

    Attributes:
        complaints: all of them, each with the path of its field, such as "models.3.rate: must be positive".
    """

    def __init__(self, complaints: str | Iterable[str]) -> None:
        self.complaints = (complaints,) if isinstance(complaints, str) else tuple(complaints)
        super().__init__("\n".join(self.complaints))

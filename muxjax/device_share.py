"""How much of a GPU's memory this process takes."""

import os
from collections.abc import MutableMapping

_FRACTION, _OLD_FRACTION, _PREALLOCATE = (
    "XLA_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
)


def take_memory_share(share: float | None, environment: MutableMapping[str, str] = os.environ) -> None:
    """Have XLA take this share of each GPU's memory, all of it at once, and no more; call it before JAX starts.

    So several processes share a GPU without disturbing each other. None leaves XLA's own choice, and what the
    environment says.
    """
    if share is None:
        return
    environment.pop(_OLD_FRACTION, None)  # XLA refuses both
    environment[_FRACTION] = str(share)
    environment[_PREALLOCATE] = "true"

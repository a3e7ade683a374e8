"""How a model wants its tokens to be chosen: the sampling defaults of generation_config.json."""

from collections.abc import Mapping
from pathlib import Path

from muxjax.models.errors import ConfigError
from muxjax.models.model_files import is_there, read_json

GENERATION_FILE = "generation_config.json"
_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_p": (1e-6, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
}


def read_sampling_defaults(path: Path) -> dict[str, float]:
    """Values of temperature, top_k, top_p, min_p and repetition_penalty, as far as there is a file that has them.

    `do_sample: false` means greedy: temperature 0, whatever else it says. Without `do_sample`, what it says counts.

    Raises:
        ConfigError: a value that cannot be.
    """
    if not is_there(path):
        return {}
    values = read_json(path, ConfigError)
    sampling: dict[str, float] = {}
    for name, (low, high) in _RANGES.items():
        value = values.get(name)
        if value is None:
            continue
        if type(value) not in (int, float) or not low <= value <= high:
            raise ConfigError(f"{path}: {name} must be a number between {low:g} and {high:g}, not {value!r}")
        sampling[name] = float(value)
    top_k = values.get("top_k")
    if top_k is not None:
        if type(top_k) is not int or top_k < -1:
            raise ConfigError(f"{path}: top_k must be a whole number, 0 or -1 for all tokens, not {top_k!r}")
        sampling["top_k"] = max(top_k, 0)
    if values.get("do_sample") is False:
        penalty = {name: value for name, value in sampling.items() if name == "repetition_penalty"}
        return {"temperature": 0.0, **penalty}
    return sampling

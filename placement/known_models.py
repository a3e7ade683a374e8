"""Model shapes by name, and from Hugging Face's config.json."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from muxjax.placement.errors import PlacementError
from muxjax.placement.model_shape import ModelShape


def _shape(
    name: str, layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int, vocab: int, billions: float
) -> ModelShape:
    tied = name in ("qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "llama-3.2-1b", "llama-3.2-3b")
    head_dim = hidden // heads
    return ModelShape(
        name, layers, hidden, intermediate, heads, kv_heads, head_dim, vocab, tied, nominal_billions=billions
    )


KNOWN_MODELS: Mapping[str, ModelShape] = {
    shape.name: shape
    for shape in (
        _shape("llama-7b", 32, 4096, 11008, 32, 32, 32000, 7),
        _shape("llama-13b", 40, 5120, 13824, 40, 40, 32000, 13),
        _shape("llama-30b", 60, 6656, 17920, 52, 52, 32000, 30),
        _shape("llama-65b", 80, 8192, 22016, 64, 64, 32000, 65),
        _shape("llama-2-70b", 80, 8192, 28672, 64, 8, 32000, 70),
        _shape("llama-3-8b", 32, 4096, 14336, 32, 8, 128256, 8),
        _shape("llama-3-70b", 80, 8192, 28672, 64, 8, 128256, 70),
        _shape("llama-3.2-1b", 16, 2048, 8192, 32, 8, 128256, 1.24),
        _shape("llama-3.2-3b", 28, 3072, 8192, 24, 8, 128256, 3.2),
        _shape("mistral-7b", 32, 4096, 14336, 32, 8, 32000, 7.2),
        _shape("qwen2.5-0.5b", 24, 896, 4864, 14, 2, 151936, 0.5),
        _shape("qwen2.5-1.5b", 28, 1536, 8960, 12, 2, 151936, 1.5),
        _shape("qwen2.5-3b", 36, 2048, 11008, 16, 2, 151936, 3.1),
        _shape("qwen2.5-7b", 28, 3584, 18944, 28, 4, 152064, 7.6),
        _shape("qwen2.5-14b", 48, 5120, 13824, 40, 8, 152064, 14.8),
        _shape("qwen2.5-32b", 64, 5120, 27648, 40, 8, 152064, 32.8),
        _shape("qwen2.5-72b", 80, 8192, 29568, 64, 8, 152064, 72.7),
    )
}


def find_model(model: str, folder: Path = Path()) -> ModelShape:
    """The shape of a known model (an organisation before a slash is ignored), a Hugging Face folder or a config.json.

    Args:
        folder: where relative paths start.

    Raises:
        PlacementError: it is none of these, or its config.json cannot be used.
    """
    path = (folder / Path(model).expanduser()).absolute()
    if path.is_dir():
        return read_config(path / "config.json")
    if path.is_file():
        return read_config(path)
    name = model.rsplit("/", 1)[-1].lower()
    if name not in KNOWN_MODELS:
        raise PlacementError(
            f"there is no model {model!r}: give a Hugging Face folder, a config.json, "
            f"or one of {', '.join(KNOWN_MODELS)}"
        )
    return KNOWN_MODELS[name]


def read_config(path: Path) -> ModelShape:
    """The shape in a Hugging Face config.json, named after its folder, or as a known model of the same sizes.

    Raises:
        PlacementError: the file cannot be read, or misses a size.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlacementError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    name = path.stem if path.name != "config.json" else path.absolute().parent.name
    try:
        shape = _from_config(config, name)
    except PlacementError as error:
        raise PlacementError(f"{path}: {complaint}" for complaint in error.complaints) from error
    for known in KNOWN_MODELS.values():
        if replace(known, name=name, nominal_billions=None) == shape:
            return known
    return shape


def _from_config(config: object, name: str) -> ModelShape:
    if not isinstance(config, Mapping):
        raise PlacementError("must hold a JSON object")
    config = config["text_config"] if isinstance(config.get("text_config"), Mapping) else config
    sizes, complaints = _Sizes(config), []
    heads = sizes.read("num_attention_heads")
    hidden = sizes.read("hidden_size")
    experts = sizes.read("num_local_experts", "num_experts", default=1)
    intermediate = ("moe_intermediate_size", "intermediate_size") if experts > 1 else ("intermediate_size",)
    shape = ModelShape(
        name=name,
        layers=sizes.read("num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=sizes.read(*intermediate),
        heads=heads,
        kv_heads=sizes.read("num_key_value_heads", default=heads),
        head_dim=sizes.read("head_dim", default=max(1, hidden // max(1, heads))),
        vocab_size=sizes.read("vocab_size"),
        tied=config.get("tie_word_embeddings") is True,
        experts=experts,
        active_experts=sizes.read("num_experts_per_tok", default=1) if experts > 1 else 1,
    )
    complaints += sizes.complaints
    if complaints:
        raise PlacementError(complaints)
    return shape


class _Sizes:
    """Reads sizes and collects what is wrong with them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.complaints: list[str] = []

    def read(self, *names: str, default: int | None = None) -> int:
        """The first of the fields that is there: a positive whole number."""
        for name in names:
            value = self._config.get(name)
            if value is None:
                continue
            if type(value) is int and value >= 1:
                return value
            self.complaints.append(f"{name}: must be a positive whole number, not {value!r}")
            return 1
        if default is None:
            self.complaints.append(f"{names[-1]}: is missing")
        return default or 1

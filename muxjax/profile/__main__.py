"""`python -m muxjax.profile MODEL... -o TABLE.json [--quick]`."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from muxjax.allocator import keep_freed_memory
from muxjax.placement.errors import PlacementError
from muxjax.placement.known_models import find_model
from muxjax.placement.model_shape import ModelShape

_SHARE = 100  # JAX has no compute shares to choose from
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LENGTHS = (32, 64, 128, 256, 512)


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the process's exit code."""
    options = _parse(arguments)
    try:
        shapes = [find_model(model) for model in options.models]
    except PlacementError as error:
        print(error, file=sys.stderr)
        return 2
    table: dict[str, Any] = {}
    try:
        for model, shape in zip(options.models, shapes, strict=True):
            table[shape.name] = {"1": {str(_SHARE): _profile(model, shape, options)}}
            options.output.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        print(f"{options.output}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"wrote {options.output}: use it with `python -m muxjax.place CLUSTER.yaml --cost {options.output}`")
    return 0


def _profile(model: str, shape: ModelShape, options: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds by batch and length, with random weights."""
    import jax  # what follows needs a device; wrong arguments do not

    from muxjax.models.load import load_model
    from muxjax.profile.measure import ProfiledModel

    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_model(f"random:{_config_path(model, shape, Path(folder))}", dtype=dtype, unroll=True)
    profiled = ProfiledModel(loaded, dtype, repeats=1 if options.quick else 5)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for batch in options.batches or ((1, 4) if options.quick else _BATCHES):
        found[str(batch)] = {}
        for length in options.lengths or ((32, 64) if options.quick else _LENGTHS):
            entry = {"prefill": profiled.prefill_ms(batch, length), "decoding": profiled.decode_ms(batch, length)}
            found[str(batch)][str(length)] = entry
            print(f"{shape.name}: batch {batch}, {length} tokens: {entry}", file=sys.stderr, flush=True)
    return found


def _config_path(model: str, shape: ModelShape, folder: Path) -> Path:
    """The model's own config.json; for a known shape one in a folder, as Hugging Face writes a Llama's."""
    path = Path(model).expanduser()
    if path.exists():
        return path / "config.json" if path.is_dir() else path
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": shape.tied,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.profile",
        description="Measure prefills and decode steps on one device, with random weights, for `muxjax.place --cost`.",
    )
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="a known shape, a Hugging Face folder or config.json"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the table, written per model")
    parser.add_argument("--quick", action="store_true", help="few sizes, once each: to see that everything runs")
    parser.add_argument("--batches", type=_positive, nargs="+", help="sequences at once (default: 1 to 256)")
    parser.add_argument("--lengths", type=_positive, nargs="+", help="tokens of a sequence (default: 32 to 512)")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())

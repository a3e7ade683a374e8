"""Ask Hugging Face transformers for the names and shapes of the tensors of tests/oracle/published.py, without weights.

.venv-oracle/bin/python -m tests.oracle.tensors      # rewrites tests/oracle/published_tensors.json
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from tests.oracle.published import PUBLISHED, numberless

TENSORS = Path(__file__).parent / "published_tensors.json"


def tensors_of(config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The shapes that save_pretrained would write for this config.json, and how many tensors have them."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "config.json").write_text(json.dumps(dict(config)))
        read = AutoConfig.from_pretrained(directory)
    auto = AutoModelForImageTextToText if "vision_config" in config else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(read)
    state = remove_tied_weights_from_state_dict(model.state_dict(), model)
    return numberless({name: tuple(tensor.shape) for name, tensor in revert_weight_conversion(model, state).items()})


def main() -> None:
    transformers.logging.set_verbosity_error()
    lines = []
    for name, published in PUBLISHED.items():
        lines.append(f"{json.dumps(name)}: {json.dumps(tensors_of(published.config))}")
        print(name, flush=True)
    TENSORS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

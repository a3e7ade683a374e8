"""Published checkpoints at their full size: their config.json asks for the tensors that they hold, and no other."""

import json
from pathlib import Path
from typing import Any

import pytest

from muxjax.models.huggingface import write_config
from muxjax.models.source import find_model
from tests.oracle.published import PUBLISHED, numberless

# As transformers would save them: `python -m tests.oracle.tensors`.
TENSORS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "oracle/published_tensors.json").read_text()
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_checkpoint(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(dict(PUBLISHED[name].config)))
    model = find_model(f"random:{tmp_path / 'config.json'}")
    assert model.config.num_parameters == PUBLISHED[name].parameters
    slots = model.architecture.tensor_slots(model.config)
    published = {
        model.architecture.canonical_name(tensor): shapes
        for tensor, shapes in TENSORS[name].items()
        if not model.architecture.ignores(tensor, model.config)
    }
    assert numberless({tensor: slot.shape for tensor, slot in slots.items()}) == published
    write_config(tmp_path, model.name, model.config, ())
    assert find_model(f"random:{tmp_path / 'config.json'}") == model

"""Ask Hugging Face transformers for the logits and greedy tokens of tests/oracle/cases.py.

make oracle                                                # once: .venv-oracle with PyTorch and transformers
.venv-oracle/bin/python -m tests.oracle.generate           # rewrites tests/oracle/golden/*.json
.venv-oracle/bin/python -m tests.oracle.generate --seed 7 --directory DIR    # of other weights, with the models
"""

import argparse
import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from tests.oracle.cases import CASES, DEFAULTS, VOCABULARY, seeded_prompt, seeded_tensor

GOLDEN = Path(__file__).parent / "golden"
MOST_ROWS, MOST_COLUMNS = 12, 24  # of the logits that are kept
COMMON = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
CLEAR = 1e-3  # how far the chosen token must be ahead, so that rounding cannot change it


def build(case: Mapping[str, Any], seed: int, directory: Path) -> PreTrainedModel:
    """The case's model in float32, saved to a directory, its weights seeded by the names that they have there."""
    config = AutoConfig.for_model(case["model_type"], **{**COMMON, **case["config"]})
    auto = AutoModelForImageTextToText if "vision_config" in case["config"] else AutoModelForCausalLM
    auto.from_config(config).save_pretrained(directory, max_shard_size="60KB")
    for path in directory.glob("*.safetensors"):
        tensors = {
            name: torch.from_numpy(seeded_tensor(name, tuple(tensor.shape), seed))
            for name, tensor in load_file(path).items()
        }
        save_file(tensors, path, metadata={"format": "pt"})
    return auto.from_pretrained(directory, dtype=torch.float32).eval()


@torch.no_grad()
def observe(model: PreTrainedModel, case: Mapping[str, Any], prompt: list[int]) -> dict[str, Any] | None:
    """Logits of the prompt's last rows and the greedy continuation; None if rounding could change one of its tokens."""
    logits = model(torch.tensor([prompt])).logits[0]
    first_row = max(0, len(prompt) - MOST_ROWS)
    columns = list(range(0, logits.shape[1], -(-logits.shape[1] // MOST_COLUMNS)))
    tokens, cache = list(prompt), None
    for _ in range(case["generated"]):
        fed = tokens if cache is None else tokens[-1:]
        output = model(torch.tensor([fed]), past_key_values=cache, use_cache=case["use_cache"])
        cache, last = output.past_key_values, output.logits[0, -1]
        best, second = last.topk(2).values.tolist()
        if best - second < CLEAR:
            return None
        tokens.append(int(last.argmax()))
    return {
        "prompt": prompt,
        "first_row": first_row,
        "columns": columns,
        "logits": [[round(value, 6) for value in row] for row in logits[first_row:, columns].tolist()],
        "generated": tokens[len(prompt) :],
    }


def write_case(directory: Path, name: str, first_seed: int) -> None:
    """DIRECTORY/NAME.json and the model in DIRECTORY/NAME/, from the first seed whose greedy tokens are clear."""
    case = {**DEFAULTS, **CASES[name]}
    for seed in itertools.count(first_seed, step=1000):
        model = build(case, seed, directory / name)
        observed = observe(
            model, case, seeded_prompt(case["prompt_length"], model.config.get_text_config().vocab_size, seed)
        )
        if observed is not None:
            break
    golden = {"transformers": transformers.__version__, "torch": torch.__version__, "seed": seed}
    golden["config"] = json.loads((directory / name / "config.json").read_text())
    (directory / f"{name}.json").write_text(json.dumps(golden | observed) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, help="where to write instead of the golden files, models included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        for name in CASES:
            if options.only in name:
                write_case(directory, name, options.seed)
                if options.directory is None:
                    shutil.copy(directory / f"{name}.json", GOLDEN)


if __name__ == "__main__":
    main()

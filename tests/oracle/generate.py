"""Ask Hugging Face transformers for the logits and greedy tokens of tests/oracle/cases.py.

make oracle                                                # once: .venv-oracle with PyTorch and transformers
.venv-oracle/bin/python -m tests.oracle.generate           # rewrites tests/oracle/golden/*.json
.venv-oracle/bin/python -m tests.oracle.generate --seed 7 --checkpoints --directory DIR    # other weights, saved
"""

import argparse
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from tests.oracle.cases import CASES, GENERATED, seeded_prompt, seeded_tensor

GOLDEN = Path(__file__).parent / "golden"
MOST_ROWS, MOST_COLUMNS = 24, 48  # of the logits that are kept
CLEAR = 1e-3  # how far the chosen token must be ahead, so that rounding cannot change it


def build(config: Mapping[str, Any], seed: int) -> LlamaForCausalLM:
    """The case's model with its seeded weights, in float32."""
    model = LlamaForCausalLM(LlamaConfig(**config, max_position_embeddings=512)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(seeded_tensor(name, tuple(parameter.shape), seed)))
    return model


@torch.no_grad()
def observe(model: LlamaForCausalLM, prompt: list[int]) -> dict[str, Any] | None:
    """Logits of the prompt's last rows and the greedy continuation; None if rounding could change one of its tokens."""
    logits = model(torch.tensor([prompt])).logits[0]
    first_row = max(0, len(prompt) - MOST_ROWS)
    columns = list(range(0, logits.shape[1], -(-logits.shape[1] // MOST_COLUMNS)))
    tokens, cache = list(prompt), None
    for _ in range(GENERATED):
        fed = tokens if cache is None else tokens[-1:]
        output = model(torch.tensor([fed]), past_key_values=cache, use_cache=True)
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


def write_case(directory: Path, name: str, first_seed: int, *, save_checkpoint: bool) -> None:
    """DIRECTORY/NAME.json, from the first seed whose greedy tokens are clear; with DIRECTORY/NAME/ if asked."""
    case = CASES[name]
    for seed in itertools.count(first_seed, step=1000):
        model = build(case["config"], seed)
        observed = observe(model, seeded_prompt(case["prompt_length"], model.config.vocab_size, seed))
        if observed is not None:
            break
    golden = {"transformers": transformers.__version__, "torch": torch.__version__, "seed": seed}
    golden["config"] = {**json.loads(model.config.to_json_string()), "architectures": [type(model).__name__]}
    (directory / f"{name}.json").write_text(json.dumps(golden | observed) + "\n")
    if save_checkpoint:
        model.save_pretrained(directory / name, max_shard_size="60KB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=GOLDEN)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoints", action="store_true", help="also save each model, in several files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in CASES:
        write_case(options.directory, name, options.seed, save_checkpoint=options.checkpoints)


if __name__ == "__main__":
    main()

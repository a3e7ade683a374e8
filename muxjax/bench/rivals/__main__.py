"""Serves one rival over standard input and output, one JSON object a line.

First line out: {"versions": {...}}, or {"error": "..."} and the end. Then, for each
{"prompts": [[ids]], "max_tokens": n} that comes in, one out:
{"token_times": [seconds of each step], "token_ids": [[ids] of each prompt]}.
"""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

from .rival import Rival

MODULES = {"transformers": ".transformers_rival", "llama.cpp": ".llama_cpp_rival"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=sorted(MODULES))
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        module = importlib.import_module(MODULES[options.name], __package__)
        rival: Rival = module.load(options.model, options.dtype, options.threads)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers)
        return
    print(json.dumps({"versions": rival.versions}), file=answers)
    for line in sys.stdin:
        question = json.loads(line)
        token_times, token_ids = rival.generate(question["prompts"], question["max_tokens"])
        print(json.dumps({"token_times": token_times, "token_ids": token_ids}), file=answers)


if __name__ == "__main__":
    main()

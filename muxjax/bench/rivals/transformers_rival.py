"""Hugging Face transformers on PyTorch: one static batch through `generate`."""

import time
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]
import transformers  # type: ignore[import-not-found]

from .rival import Rival


class StepTimes:
    """A streamer of `generate`: hears of the prompts, and then of every step's tokens."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, token_ids: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is held back."""


class TransformersRival(Rival):
    """A model with its default attention and cache."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__, "transformers": transformers.__version__}

    def generate(self, prompts: list[list[int]], max_tokens: int) -> tuple[list[float], list[list[int]]]:
        steps = StepTimes()
        started = time.perf_counter()
        prompt_ids = torch.tensor(prompts)
        with torch.inference_mode():
            token_ids = self._model.generate(
                prompt_ids,
                attention_mask=torch.ones_like(prompt_ids),
                streamer=steps,
                do_sample=False,
                use_cache=True,
                min_new_tokens=max_tokens,
                max_new_tokens=max_tokens,
                eos_token_id=None,
                pad_token_id=0,
            )
        return [moment - started for moment in steps.times[1:]], token_ids[:, len(prompts[0]) :].tolist()


def load(directory: Path, dtype: str, threads: int) -> Rival:
    """The model of a Hugging Face directory."""
    torch.set_num_threads(threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))
    return TransformersRival(model.eval())

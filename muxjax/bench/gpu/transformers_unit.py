"""transformers on the load's LLM: one static batch, which is its best case."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from muxjax.bench.gpu.scale import Scale
from muxjax.bench.isolated import Case

_BATCH = 32


def cases(scale: Scale, folder: Path) -> Iterator[Case]:
    """Tokens a second of one LLM; time slices of several are no faster."""
    yield Case({"served": "transformers, one LLM, a static batch"}, partial(_generate, scale))


def _generate(scale: Scale) -> dict[str, Any]:
    import torch  # type: ignore[import-not-found]
    import transformers  # type: ignore[import-not-found]

    load, device = scale.load, "cpu" if scale.kernels.is_interpreted else "cuda"
    fields = {name: value for name, value in load.llms[0].items() if name != "architectures"}
    config = transformers.LlamaConfig(**fields)
    with torch.device(device):
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    prompts = torch.randint(0, config.vocab_size, (_BATCH, load.prompt_tokens), device=device)
    tokens = {"max_new_tokens": load.output_tokens, "min_new_tokens": load.output_tokens}
    times = []
    with torch.inference_mode():
        for _ in range(2):  # the first one warms up
            started = time.perf_counter()
            model.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=False, pad_token_id=0, **tokens)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    return {"requests": _BATCH, "tokens_per_second": _BATCH * load.output_tokens / times[-1]}

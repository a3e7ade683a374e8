"""How much a run measures: LLMs that GPUs are for, or what a CPU gets through in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass

from muxjax.bench.kernels.scale import FULL as KERNELS
from muxjax.bench.kernels.scale import SMOKE as SMOKE_KERNELS
from muxjax.bench.kernels.scale import Scale as KernelScale
from muxjax.serving.spec import Overlap

Fields = Mapping[str, object]
"""A model's config.json."""


def llama(
    layers: int, hidden: int, mlp: int, heads: int, kv_heads: int, vocab: int, head_dim: int = 128, context: int = 4096
) -> Fields:
    """A Llama of this shape in Hugging Face's terms."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "bos_token_id": None,
        "eos_token_id": None,
    }


@dataclass(frozen=True, slots=True)
class Pair:
    """A step of two jobs: a prefill chunk of one LLM and a decode batch of another one, or of the same."""

    prefill_llm: str
    chunk: int
    decode_llm: str
    batch: int
    context: int


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to three LLMs at once.

    Attributes:
        llms: their shapes; the most popular one first.
        popularity: of each, as a share of all requests.
        rates: requests a second of all together, one run for each.
        seconds: that requests arrive.
        sequences: of each LLM at once, at most.
        overlaps: how the jobs of a step run together.
        prompt_tokens: of a request.
        output_tokens: of a request.
        slice_seconds: how long an LLM has the device to itself, when they share it in time.
        slo_scale: how many times what a lone request takes a request may take.
    """

    llms: tuple[Fields, ...]
    popularity: tuple[float, ...]
    rates: tuple[float, ...]
    seconds: float
    prompt_tokens: int
    output_tokens: int
    sequences: int = 64
    overlaps: tuple[Overlap, ...] = ("interleaved", "packed")
    slice_seconds: float = 1.0
    slo_scale: float = 5.0


@dataclass(frozen=True, slots=True)
class Scale:
    """The parameters of a run.

    Attributes:
        kernels: how often a program is timed.
        shapes: the LLMs of the steps, by name.
        step: the LLM whose decode and prefill are timed alone.
        decodes: batches and contexts of its decode; the first one has the target.
        chunks: tokens of its prefill.
        pairs: what is packed.
        pool_blocks: head blocks of the steps' pool.
        same: the LLMs whose tokens must be the same however they run, with `load.prompt_tokens`.
        load: what the whole unit is asked.
    """

    kernels: KernelScale
    shapes: Mapping[str, Fields]
    step: str
    decodes: tuple[tuple[int, int], ...]
    chunks: tuple[int, ...]
    pairs: tuple[Pair, ...]
    pool_blocks: int
    same: Fields
    load: Load


_1B = llama(16, 2048, 8192, 32, 8, 32_000, head_dim=64)
FULL = Scale(
    kernels=KERNELS,
    shapes={"7b": llama(32, 4096, 11008, 32, 32, 32_000), "8b": llama(32, 4096, 14336, 32, 8, 128_256)},
    step="7b",
    decodes=((32, 1024), (1, 1024), (8, 2048), (64, 512)),
    chunks=(2048, 512),
    pairs=(
        Pair("7b", 512, "8b", 32, 1024),
        Pair("7b", 2048, "8b", 64, 1024),
        Pair("8b", 512, "7b", 32, 1024),
        Pair("7b", 512, "7b", 32, 1024),
    ),
    pool_blocks=1_200_000,
    same=llama(4, 1024, 2816, 8, 4, 32_000),
    load=Load((_1B, _1B, _1B), (0.7, 0.2, 0.1), (10.0, 20.0, 40.0), 10.0, 256, 64),
)
"""Llama-2-7B and Llama-3-8B step by step, and three of Llama-3.2-1B's shape in a unit; all with random weights."""

_TINY = llama(2, 64, 96, 2, 1, 131, head_dim=32, context=64)
SMOKE = Scale(
    kernels=SMOKE_KERNELS,
    shapes={"tiny": _TINY, "other": llama(1, 64, 96, 2, 2, 131, head_dim=64)},
    step="tiny",
    decodes=((2, 20),),
    chunks=(16,),
    pairs=(Pair("tiny", 16, "other", 2, 20),),
    pool_blocks=200,
    same=_TINY,
    load=Load(
        (_TINY, _TINY), (0.75, 0.25), (8.0,), 0.5, 8, 4, sequences=2, overlaps=("interleaved",), slice_seconds=0.1
    ),
)
"""Every line runs; the figures mean nothing."""

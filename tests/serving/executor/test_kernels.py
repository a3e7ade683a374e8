"""An LLM's implementation of each operation is known, with its reason, before anything is loaded."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from muxjax.serving.executor.kernels import kernel_choices
from muxjax.serving.plan import plan_unit
from muxjax.serving.spec import LLMSpec, PoolSpec, UnitSpec


@dataclass(frozen=True)
class GPU:
    """What JAX says of an NVIDIA GPU."""

    compute_capability: str
    device_kind: str = "NVIDIA X"
    platform: str = "gpu"


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
}


def choices(
    folder: Path, capability: str, *, pool_dtype: str = "bfloat16", lane: int = 128, **fields: int
) -> dict[str, tuple[str, str]]:
    """Name and reason by operation, of an LLM with these fields of config.json."""
    (folder / "config.json").write_text(json.dumps(CONFIG | fields))
    llm = LLMSpec("llm", f"random:{folder / 'config.json'}", dtype="bfloat16")
    plan = plan_unit(UnitSpec((llm,), PoolSpec(num_blocks=512, lane=lane, dtype=pool_dtype)))
    chosen = kernel_choices(plan.llms[0], plan.pool, GPU(capability))
    return {operation: (choice.name, choice.reason) for operation, choice in chosen.items()}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_ampere_gets_triton(tmp_path: Path, head_dim: int, dtype: str) -> None:
    chosen = choices(tmp_path, "8.0", head_dim=head_dim, pool_dtype=dtype)
    assert {name for name, _ in chosen.values()} == {"triton"}
    assert {reason for _, reason in chosen.values()} == {"Triton kernels, for compute capability 8.0"}


def test_an_old_gpu_gets_plain_jax(tmp_path: Path) -> None:
    chosen = choices(tmp_path, "7.0")
    assert {name for name, _ in chosen.values()} == {"xla"}
    assert all("too old" in reason for _, reason in chosen.values())


def test_a_head_size_that_no_kernel_takes_gets_plain_jax_and_the_reason(tmp_path: Path) -> None:
    chosen = choices(tmp_path, "9.0", head_dim=512, lane=512)
    for operation in ("paged_decode", "ragged_prefill"):
        name, reason = chosen[operation]
        assert name == "xla"
        assert "not 512" in reason


def test_a_group_that_no_kernel_takes_gets_plain_jax_and_the_reason(tmp_path: Path) -> None:
    chosen = choices(tmp_path, "8.0", num_attention_heads=256, num_key_value_heads=1)
    for operation in ("paged_decode", "ragged_prefill"):
        name, reason = chosen[operation]
        assert name == "xla"
        assert "query heads per KV head, not 256" in reason


def test_a_dtype_that_mosaic_does_not_take_gets_triton_on_hopper_and_the_reason(tmp_path: Path) -> None:
    chosen = choices(tmp_path, "9.0", pool_dtype="float32")
    name, reason = chosen["paged_decode"]
    assert name == "triton"
    assert "both bfloat16 or both float16, not bfloat16, float32" in reason


@pytest.mark.parametrize("head_dim", [64, 128])
def test_hopper_gets_mosaic(tmp_path: Path, head_dim: int) -> None:
    chosen = choices(tmp_path, "9.0", head_dim=head_dim)
    assert set(chosen) == {"paged_decode", "ragged_prefill", "pool_write"}
    assert {name for name, _ in chosen.values()} == {"mosaic"}


def test_hopper_prefills_heads_that_mosaic_does_not_take_with_triton_and_says_why(tmp_path: Path) -> None:
    chosen = choices(tmp_path, "9.0", head_dim=256)
    assert chosen["paged_decode"][0] == "mosaic"
    name, reason = chosen["ragged_prefill"]
    assert name == "triton"
    assert "heads of 64, 128, not 256" in reason

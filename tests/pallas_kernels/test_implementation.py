"""Which implementation runs: the default with its reason, the fallback, and what is said about unsupported inputs."""

import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, Mesh, PartitionSpec, use_abstract_mesh

from muxjax.pallas_kernels.implementation import (
    choose,
    default_implementation,
    interpreted,
    preferences,
    run_first_supported,
)
from muxjax.pallas_kernels.paged_decode import paged_decode
from muxjax.pallas_kernels.paged_decode.reference import paged_decode_reference
from tests.pallas_kernels.cases import assert_close, make_case


def test_default_is_c_where_there_is_a_compiler() -> None:
    choice = default_implementation()
    assert choice.name == "cpu"
    assert "compiled for this CPU by" in choice.reason


@dataclass(frozen=True)
class GPU:
    """What JAX says of a device."""

    compute_capability: str | None
    device_kind: str = "NVIDIA X"
    platform: str = "gpu"


@pytest.mark.parametrize(
    ("capability", "names", "reason"),
    [
        ("9.0", ["mosaic", "triton", "xla"], "Mosaic GPU kernels, for Hopper"),
        ("8.0", ["triton", "xla"], "Triton kernels, for compute capability 8.0"),
        ("8.9", ["triton", "xla"], "Triton kernels, for compute capability 8.9"),
        ("10.0", ["triton", "xla"], "Triton kernels, for compute capability 10.0"),
        ("7.5", ["xla"], r"NVIDIA X is too old for the kernels \(compute capability 7.5, they need 8.0\)"),
        ("gfx942", ["xla"], "there are no kernels for NVIDIA X"),
        (None, ["xla"], "there are no kernels for NVIDIA X"),
    ],
)
def test_gpus_get_the_kernels_of_their_generation(capability: str | None, names: list[str], reason: str) -> None:
    preferred = preferences(GPU(capability))
    assert [choice.name for choice in preferred] == names
    assert re.search(reason, preferred[0].reason)


def test_what_one_implementation_refuses_the_next_one_gets_and_says_so() -> None:
    def attempt(name: str) -> str:
        if name != "xla":
            raise NotImplementedError(f"{name}: no heads of 7")
        return f"attention by {name}"

    choice, result = choose({"mosaic", "triton", "xla"}, attempt, GPU("9.0"))  # type: ignore[arg-type]
    assert result == "attention by xla"
    assert choice.name == "xla"
    assert choice.reason == "plain JAX; mosaic: no heads of 7; triton: no heads of 7"


def test_an_operation_without_a_kernel_for_the_device_runs_in_plain_jax() -> None:
    choice, _ = choose({"cpu", "xla"}, lambda name: None, GPU("9.0"))
    assert choice.name == "xla"


def test_unsupported_inputs_go_to_xla_unless_c_is_asked_for() -> None:
    """Heads of 8 elements are narrower than the C kernels' vectors."""
    case = make_case(np.random.default_rng(0), past=[9, 0], rows=[1, 1], head_dim=8)
    tables = (case.page_blocks, case.page_table, case.kv_lens)
    inputs = [jnp.asarray(x) for x in (case.queries, case.keys, case.values, case.pool, *tables)]
    expected = paged_decode_reference(*(np.asarray(x) for x in inputs), sm_scale=0.5)
    assert_close(paged_decode(*inputs, sm_scale=0.5), expected, "float32")
    with pytest.raises(NotImplementedError, match="multiple of 16, at most 256, not 8"):
        paged_decode(*inputs, sm_scale=0.5, implementation="cpu")


def test_unknown_implementation_is_named() -> None:
    with pytest.raises(ValueError, match="implementation='cuda' is unknown: use None or one of cpu, xla"):
        run_first_supported({"cpu": jnp.exp, "xla": jnp.exp}, "cuda", 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"queries": (2, 3, 64)}, "3 heads, which is no multiple of the 2"),
        ({"values": (2, 2, 32)}, "must both be"),
        ({"page_blocks": (5, 3)}, r"must be \[pages, 2\]"),
        ({"pool": (9, 2, 128, 32)}, "lane at least 64"),
        ({"sliding_window": 0}, "sliding_window=0 must be at least 1"),
        ({"soft_cap": 0.0}, r"soft_cap=0.0 must be positive"),
    ],
)
def test_misfits_are_explained(changed: dict[str, object], message: str) -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "queries": (2, 4, 64),
        "keys": (2, 2, 64),
        "values": (2, 2, 64),
        "pool": (9, 2, 64, 64),
        "page_blocks": (5, 2),
    }
    shapes |= {name: shape for name, shape in changed.items() if isinstance(shape, tuple)}
    options = {name: option for name, option in changed.items() if not isinstance(option, tuple)}
    arrays = [jnp.zeros(shape, int if name == "page_blocks" else float) for name, shape in shapes.items()]
    tables = jnp.zeros((2, 3), int), jnp.ones(2, int)
    with pytest.raises(ValueError, match=message):
        paged_decode(*arrays, *tables, sm_scale=1.0, **options)  # type: ignore[arg-type]


def test_within_shard_map_devices_are_what_they_are_outside() -> None:
    """The mesh has an abstract device there, which does not say what kernels it can run."""
    mesh = Mesh(np.array(jax.devices()[:1]), ("devices",))
    seen = []

    def trace(x: jax.Array) -> jax.Array:
        seen.append((interpreted(), preferences()))
        return x

    jax.eval_shape(jax.shard_map(trace, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec()), jnp.ones(3))
    assert seen == [(True, preferences())]


def test_a_gpu_that_is_not_here_gets_the_kernels_of_its_generation() -> None:
    for kind, names in {"NVIDIA H100 80GB HBM3": ["mosaic", "triton", "xla"], "NVIDIA A100": ["triton", "xla"]}.items():
        gpu = AbstractDevice(device_kind=kind, num_cores=132, platform="gpu")
        with use_abstract_mesh(AbstractMesh((), (), abstract_device=gpu)):
            assert [choice.name for choice in preferences()] == names


def test_kernels_are_interpreted_unless_the_program_is_for_a_gpu() -> None:
    assert interpreted()
    gpu = AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=gpu)):
        assert not interpreted()

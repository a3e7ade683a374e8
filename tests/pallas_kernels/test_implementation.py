"""Which implementation runs: the default with its reason, the fallback, and what is said about unsupported inputs."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from muxjax.pallas_kernels.implementation import default_implementation, interpreted, run_first_supported
from muxjax.pallas_kernels.paged_decode import paged_decode
from muxjax.pallas_kernels.paged_decode.reference import paged_decode_reference
from tests.pallas_kernels.cases import assert_close, make_case


def test_default_is_c_where_there_is_a_compiler() -> None:
    choice = default_implementation()
    assert choice.name == "cpu"
    assert "compiled for this CPU by" in choice.reason


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


def test_kernels_are_interpreted_unless_the_program_is_for_a_gpu() -> None:
    assert interpreted()
    gpu = AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=gpu)):
        assert not interpreted()

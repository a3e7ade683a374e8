"""The operations inside programs as a step runs them: layers scanned, the pool donated, several programs at once."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.pallas_kernels.paged_decode import paged_decode
from muxjax.pallas_kernels.pool_write import pool_write
from muxjax.pallas_kernels.pool_write.reference import pool_write_reference

BLOCKS, LAYERS, SEQUENCES, KV_HEADS, GROUP, PAGES = 1000, 3, 4, 2, 2, 40
Arrays = tuple[jax.Array, ...]
pytestmark = pytest.mark.parametrize("implementation", ["cpu", "xla"])


def decode_layers(pool: jax.Array, llm: Arrays, implementation: str, *, scan: bool) -> tuple[jax.Array, Arrays]:
    """Runs an LLM's decode, which only reads the pool; returns its output and the new keys and values."""
    queries, keys, values, page_blocks, page_table, kv_lens, _ = llm
    view = pool_view(pool, llm)

    def layer(hidden: jax.Array, inputs: Arrays) -> tuple[jax.Array, Arrays]:
        layer_keys, layer_values, blocks = inputs
        tables = (blocks, page_table, kv_lens)
        attention = paged_decode(
            hidden, layer_keys, layer_values, view, *tables, sm_scale=0.125, implementation=implementation
        )
        return attention, (layer_keys * 2, layer_values)

    if scan:
        return jax.lax.scan(layer, queries, (keys, values, page_blocks))
    hidden, new = queries, []
    for index in range(LAYERS):
        hidden, tokens = layer(hidden, (keys[index], values[index], page_blocks[index]))
        new.append(tokens)
    return hidden, tuple(jnp.stack(tokens) for tokens in zip(*new, strict=True))


def decode_step(implementation: str, *, scan: bool = True) -> Callable[..., tuple[list[jax.Array], jax.Array]]:
    """A step's shape: every LLM attends to the pool as it was, then all new tokens are written at once."""

    def step(pool: jax.Array, *llms: Arrays) -> tuple[list[jax.Array], jax.Array]:
        decoded = [decode_layers(pool, llm, implementation, scan=scan) for llm in llms]
        decoded = jax.lax.optimization_barrier(decoded)
        for (_, new), llm in zip(decoded, llms, strict=True):
            pool = pool_write(pool, *new, llm[3], llm[-1], implementation=implementation)
        return [hidden for hidden, _ in decoded], pool

    return step


def pool_view(pool: jax.Array, llm: Arrays) -> jax.Array:
    head_dim = llm[0].shape[-1]
    return pool.reshape(BLOCKS, 2, 4096 // head_dim, head_dim)


def step_inputs(dtype: str, head_dims: tuple[int, ...] = (64,)) -> tuple[jax.Array, *tuple[Arrays, ...]]:
    """The unit's pool, and the batch of an LLM of each head size; the LLMs own different blocks."""
    rng = np.random.default_rng(0)
    blocks = iter(1 + rng.permutation(BLOCKS - 1)[: 2 * LAYERS * PAGES * KV_HEADS].reshape(2, LAYERS, PAGES, KV_HEADS))
    llms = [
        (
            jnp.asarray(rng.standard_normal((SEQUENCES, KV_HEADS * GROUP, head_dim)), dtype),
            *jnp.asarray(rng.standard_normal((2, LAYERS, SEQUENCES, KV_HEADS, head_dim)), dtype),
            jnp.asarray(next(blocks), jnp.int32),
            jnp.asarray(rng.permutation(PAGES)[: SEQUENCES * 10].reshape(SEQUENCES, 10), jnp.int32),
            jnp.asarray([1, 64, 65, 300], jnp.int32),
            jnp.asarray([130, -1, 7, 32 * 39], jnp.int32),
        )
        for head_dim in head_dims
    ]
    return jnp.asarray(rng.standard_normal((BLOCKS, 2, 32, 128)), dtype), *llms


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize(("dtype", "head_dims"), [("float32", (64,)), ("bfloat16", (64,)), ("float32", (64, 128))])
def test_donated_pool_is_never_copied(implementation: str, dtype: str, head_dims: tuple[int, ...], scan: bool) -> None:
    inputs = step_inputs(dtype, head_dims)
    compiled = jax.jit(decode_step(implementation, scan=scan), donate_argnums=0).lower(*inputs).compile()
    for line in compiled.as_text().splitlines():
        made = re.match(r"\s*(?:ROOT )?\S+ = \w+\[1000,2,(?:32,128|64,64)\]\S* (\S+)\(", line)
        assert made is None or made[1] not in {"copy", "copy-start", "convert", "select"}, line
    assert compiled.memory_analysis().temp_size_in_bytes < inputs[0].nbytes / 4
    before = inputs[0].unsafe_buffer_pointer()
    assert compiled(*inputs)[1].unsafe_buffer_pointer() == before


def test_step_reads_the_old_pool_and_writes_the_new_tokens(implementation: str) -> None:
    inputs = step_inputs("float32", (64, 128))
    pool = np.asarray(inputs[0])
    for _, keys, values, page_blocks, _, _, slots in inputs[1:]:
        new = np.asarray(keys) * 2, np.asarray(values)
        pool = pool_write_reference(pool, *new, np.asarray(page_blocks), np.asarray(slots))
    attention, written = jax.jit(decode_step(implementation))(*inputs)
    np.testing.assert_array_equal(np.asarray(written), pool)
    alone = [jax.jit(decode_step(implementation))(inputs[0], llm)[0][0] for llm in inputs[1:]]
    for packed, own in zip(attention, alone, strict=True):
        np.testing.assert_allclose(np.asarray(packed), np.asarray(own), rtol=1e-6, atol=1e-6)


def test_programs_at_once_do_not_disturb_each_other(implementation: str) -> None:
    """More programs than XLA has threads, each of them wanting all threads."""
    step = jax.jit(decode_step(implementation))
    inputs = step_inputs("float32")
    expected = jax.tree.map(np.asarray, step(*inputs))
    with ThreadPoolExecutor(8) as threads:
        for outputs in threads.map(lambda _: jax.block_until_ready(step(*inputs)), range(24)):
            jax.tree.map(np.testing.assert_array_equal, outputs, expected)

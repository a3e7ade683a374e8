"""Tiles of rows, each within one group, found in XLA, so that a kernel's program knows at once what is its."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int, Int32


class RowTiles(NamedTuple):
    """Groups of 0, 3 and 5 rows in tiles of up to 4:

        group = [1, 2, 2, 2]   begin = [0, 3, 7, 11]   end = [3, 8, 8, 8]

    Attributes:
        group: whose rows they are.
        begin: the first one's index.
        end: the index after the group's last row; a tile that is not needed begins there or later.
    """

    group: Int32[Array, "tiles"]
    begin: Int32[Array, "tiles"]
    end: Int32[Array, "tiles"]


def row_tiles(group_sizes: Int[Array, " groups"], rows: int, tile_rows: int) -> RowTiles:
    """Tiles that cover each row once. Their number follows from shapes: as many as the worst sizes need."""
    sizes = group_sizes.astype(jnp.int32)
    ends = jnp.cumsum(sizes)
    tiles_before = jnp.cumsum(-(-sizes // tile_rows))
    tile = jnp.arange(max_tiles(rows, len(sizes), tile_rows), dtype=jnp.int32)
    group = jnp.minimum((tiles_before <= tile[:, None]).sum(axis=1, dtype=jnp.int32), len(sizes) - 1)
    first_tile = tiles_before[group] - -(-sizes[group] // tile_rows)
    return RowTiles(group, ends[group] - sizes[group] + (tile - first_tile) * tile_rows, ends[group])


def max_tiles(rows: int, groups: int, tile_rows: int) -> int:
    """An incomplete tile for each group that has rows, and complete ones for the rest."""
    used = min(rows, groups)
    return used + (rows - used) // tile_rows

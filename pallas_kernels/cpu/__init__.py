"""The CPU's kernels in C, compiled at first use and called by XLA in place, without copies."""

"""Attention over the pool, one folder per operation."""

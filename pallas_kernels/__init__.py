"""Attention over the pool, and products of groups, one folder per operation."""

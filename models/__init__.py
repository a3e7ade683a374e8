"""Flax NNX definitions of the served models, their checkpoints and tokenizers."""

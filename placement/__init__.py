"""Which LLMs share which devices: workloads, cost models and searches, without JAX."""

"""Which LLM's jobs run in the next step, and with which pages: no JAX, time passed in."""

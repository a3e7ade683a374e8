"""The page `/ui`: every LLM's share of memory and compute, and how fast it answers, live."""

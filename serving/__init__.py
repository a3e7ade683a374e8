"""The serving runtime: pool, scheduler, engine, executors, sampling and frontends."""

"""Other engines, run by another interpreter that has them: nothing here imports muxjax.

Started as `PYTHONPATH=muxjax/bench PYTHON -m rivals NAME ...` (see `muxjax.bench.rival`); Python 3.11 will do.
"""

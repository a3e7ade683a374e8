"""What tests of packed steps share."""

import pytest

from muxjax.serving.executor import jax_executor
from muxjax.serving.executor.jax_executor import JaxExecutor
from muxjax.serving.executor.packed import PackedKey
from tests.serving.executor.test_packed import AtOnce


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[PackedKey]:
    """Programs are compiled as soon as they are wanted; lists the keys of those that ran."""
    monkeypatch.setattr(jax_executor, "ThreadPoolExecutor", AtOnce)
    ran: list[PackedKey] = []
    dispatch = JaxExecutor.dispatch_packed

    def noting(self, jobs, completions):
        launch = dispatch(self, jobs, completions)
        if launch is not None:
            ran.append(launch.packed)
        return launch

    monkeypatch.setattr(JaxExecutor, "dispatch_packed", noting)
    return ran

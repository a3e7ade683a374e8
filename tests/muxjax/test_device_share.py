"""Several processes on one GPU: each takes a share of its memory and keeps to it."""

import os

import pytest

from muxjax.device_share import take_memory_share
from muxjax.serve.__main__ import main
from muxjax.serving.plan import PlanError


@pytest.mark.parametrize("before", [{}, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9", "XLA_CLIENT_MEM_FRACTION": "0.2"}])
def test_a_share_is_taken_at_once_whatever_the_environment_said(before):
    environment = dict(before)
    take_memory_share(0.45, environment)
    assert environment == {"XLA_CLIENT_MEM_FRACTION": "0.45", "XLA_PYTHON_CLIENT_PREALLOCATE": "true"}


def test_without_a_share_the_environment_is_as_it_was():
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}
    take_memory_share(None, environment)
    assert environment == {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}


def test_serve_takes_its_share_before_it_looks_for_a_device(tmp_path, monkeypatch, capsys):
    config = tmp_path / "serve.yaml"
    config.write_text("device: {memory_share: 0.25}\n")
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "")  # put back afterwards
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "")

    def unit_spec(config):
        raise PlanError(f"share: {os.environ['XLA_CLIENT_MEM_FRACTION']}")

    monkeypatch.setattr("muxjax.config.unit.unit_spec", unit_spec)
    assert main([str(config), "--check"]) == 2
    assert "share: 0.25" in capsys.readouterr().err

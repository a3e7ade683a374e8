"""The roofline: how it depends on its figures, and how far it is from measurements."""

import numpy as np
import pytest

from muxjax.placement.cost.fit import errors, fit, points
from muxjax.placement.cost.roofline import DECODE, PREFILL, Roofline
from muxjax.placement.gpus import KNOWN_GPUS
from muxjax.placement.known_models import KNOWN_MODELS
from tests.placement.reference import a100_table, needs_data

A100, H100 = KNOWN_GPUS["a100-80gb"], KNOWN_GPUS["h100-80gb"]
LLAMA = KNOWN_MODELS["llama-7b"]


@needs_data
@pytest.mark.parametrize(("kind", "shipped"), [("prefill", PREFILL), ("decode", DECODE)])
def test_held_out_measurements_are_predicted(kind, shipped):
    wrong = errors(points(a100_table(), kind), kind, A100, shipped)
    assert len(wrong) > 800
    assert np.median(wrong) < 0.10
    assert np.quantile(wrong, 0.9) < 0.25


@needs_data
def test_the_shipped_efficiencies_are_the_fitted_ones():
    measured = points(a100_table(), "decode")
    fitted = fit(measured, "decode", A100, DECODE)
    again = np.median(errors(measured, "decode", A100, fitted))
    assert again == pytest.approx(np.median(errors(measured, "decode", A100, DECODE)), abs=1e-3)


def test_more_work_and_less_share_take_longer_and_a_better_gpu_less():
    roofline = Roofline(A100)
    batches = np.array([1, 8, 64, 256])
    for job, length in ((roofline.prefill_seconds, 161), (roofline.decode_seconds, 400)):
        seconds = job(LLAMA, 1, 100, batches, length)
        assert (np.diff(seconds) > 0).all()
        assert (job(LLAMA, 1, 30, batches, length) > seconds).all()
    assert (Roofline(H100).decode_seconds(LLAMA, 1, 100, batches, 400) < seconds).all()


def test_a_large_prefill_takes_its_arithmetic_and_a_small_decode_step_its_weights():
    roofline = Roofline(A100)
    prefill = roofline.prefill_seconds(LLAMA, 1, 100, 64, 512)
    assert prefill == pytest.approx(2 * LLAMA.active_parameters * 64 * 512 / (312e12 * PREFILL.compute), rel=0.1)
    assert roofline.decode_seconds(LLAMA, 1, 100, 1, 100) > LLAMA.weight_bytes / 2039e9


def test_meshes_divide_the_heads():
    assert Roofline(A100).gpu_counts(KNOWN_MODELS["qwen2.5-0.5b"]) == [1, 2]
    assert Roofline(A100).gpu_counts(LLAMA) == [1, 2, 4, 8]

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax import train
from muxjax.models.attention import causal_attention
from muxjax.models.load import load_model
from muxjax.training import loop, recipes
from muxjax.training.attention import BLOCK, blocked_causal_attention
from muxjax.training.export import export
from muxjax.training.loop import Trainer, learning_rate
from muxjax.training.tasks import ArithmeticTask, TextTask
from muxjax.training.tokenizers import BEGIN, END, USER, arithmetic_tokenizer, train_byte_level_bpe
from tests.muxjax.training.tiny import recipe, rng


@pytest.fixture(scope="module")
def task() -> ArithmeticTask:
    return ArithmeticTask()


@pytest.fixture(autouse=True)
def short_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "REPORT_EVERY", 5)


def leaves(trainer: Trainer) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trainer._params)]


def test_training_lowers_the_loss(task: ArithmeticTask) -> None:
    reports = list(Trainer(recipe(steps=40), task).run())
    assert reports[-1].step == 40
    assert reports[-1].progress == 1
    assert reports[-1].training_loss < reports[0].training_loss - 0.2


def test_a_resumed_run_goes_on_as_if_never_stopped(task: ArithmeticTask, tmp_path: Path) -> None:
    whole, first, second = (Trainer(recipe(), task) for _ in range(3))
    list(whole.run())
    for report in first.run():
        if report.step == 10:
            first.save(tmp_path / "state")
            break
    second.resume(tmp_path / "state")
    assert second.step == 10
    list(second.run())
    for expected, actual in zip(leaves(whole), leaves(second), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_a_time_limit_ends_training(task: ArithmeticTask) -> None:
    reports = list(Trainer(recipe(steps=10**9), task).run(minutes=1e-3))
    assert reports[-1].progress == 1


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(progress, peak=1.0) for progress in np.linspace(0, 1, 101)]
    assert 0 < rates[0] < 0.01
    assert max(rates) == pytest.approx(1.0)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(0.05)


@pytest.mark.parametrize("options", [{}, {"sliding_window": 9, "soft_cap": 2.0, "sm_scale": 0.4}], ids=["plain", "all"])
@pytest.mark.parametrize("tokens", [5, BLOCK, BLOCK + 3])
def test_blocked_attention_is_causal_attention(tokens: int, options: dict[str, Any]) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    queries = jax.random.normal(keys[0], (tokens, 4, 8))
    past = [jax.random.normal(key, (tokens, 2, 8)) for key in keys[1:]]
    np.testing.assert_allclose(
        blocked_causal_attention(queries, *past, **options),
        causal_attention(queries, *past, **options),
        atol=2e-6,
        rtol=1e-5,
    )


def test_only_answers_and_their_ends_count(task: ArithmeticTask) -> None:
    batch = task.training_batch(50, rng())
    for tokens, scored in zip(batch.tokens, batch.scored, strict=True):
        question, answer = task.tokenizer.decode(tokens, skip_special_tokens=False).removeprefix(BEGIN).split("=")
        counted = task.tokenizer.decode(tokens[1:][scored], skip_special_tokens=False)
        assert counted == answer[: answer.index(END)] + END
        assert sum(map(int, question.split("+"))) == int(counted.removesuffix(END))


def test_windows_of_text_start_where_lines_do() -> None:
    document = "".join(f"line {number} of the text\n" for number in range(50))
    tokenizer = train_byte_level_bpe([document], 300, (BEGIN, END, USER))
    task = TextTask(tokenizer, [document], [document], context=16)
    for tokens in task.training_batch(20, rng()).tokens:
        assert tokenizer.decode(tokens, skip_special_tokens=False).startswith(f"{BEGIN}line")


def test_sums_may_be_written_with_spaces() -> None:
    tokenizer = arithmetic_tokenizer()
    assert tokenizer.encode("12 + 34 =").ids == tokenizer.encode("12+34=").ids
    assert tokenizer.decode(tokenizer.encode("12+34=46").ids) == "12+34=46"


def test_an_exported_model_loads_as_any_other(task: ArithmeticTask, tmp_path: Path) -> None:
    trainer = Trainer(recipe(), task)
    export(tmp_path, recipe(), task.tokenizer, trainer.decoder)
    model = load_model(tmp_path, dtype=jnp.float32)
    assert model.config == recipe().config
    assert model.eos_token_ids == (1,)
    assert model.tokenizer is not None
    assert model.tokenizer.encode("1+1=")[0] == model.tokenizer.bos_token_id
    assert not any(str(tmp_path).encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_the_command_trains_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "arithmetic", recipe())
    assert train.main(["arithmetic", "--output", str(tmp_path / "sums")]) == 0
    *reports, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [report["step"] for report in reports] == [5, 10, 15, 20]
    assert last["saved"] == str(tmp_path / "sums")
    assert sorted(path.name for path in (tmp_path / "sums").iterdir()) == [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "weights",
    ]


@pytest.mark.parametrize("arguments", [["nothing"], ["code", "--minutes", "0"], ["code", "--minutes", "nan"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(arguments)
    assert "error" in capsys.readouterr().err

"""From sampled tokens to outputs: ends, texts and what is never shown."""

import pytest

from muxjax.models.load import load_model
from muxjax.models.tokenizer import Tokenizer
from muxjax.serving.completion import Completion
from muxjax.serving.request import FinishReason, Output, Request, SamplingParams, TokenLogprobs
from muxjax.serving.scheduler.sequence import Sequence

EOS = 0


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = load_model("demo:code", dtype="float32").tokenizer
    assert tokenizer is not None
    return tokenizer


def completion(tokenizer: Tokenizer | None, prompt=(5, 6), max_tokens: int = 100, **sampling: object) -> Completion:
    request = Request("r", "code", tuple(prompt), SamplingParams(max_tokens=max_tokens, **sampling))
    sequence = Sequence(1, "code", len(prompt), len(prompt) + max_tokens, arrival=0.0)
    return Completion(request, 0, sequence, tokenizer=tokenizer, eos_token_ids=(EOS,))


def feed(completion: Completion, token_ids: list[int]) -> list[Output]:
    outputs = []
    for token_id in token_ids:
        outputs.append(completion.append(token_id, None))
        if completion.is_finished:
            break
    return outputs


def shown(outputs: list[Output]) -> str:
    return "".join(output.text for output in outputs)


def test_text_comes_piece_by_piece_and_whole_in_the_end(tokenizer):
    text = "def café(): return '🙂 naïve'\n"
    token_ids = tokenizer.encode(text, add_bos=False)
    outputs = feed(completion(tokenizer, max_tokens=len(token_ids)), token_ids)
    assert shown(outputs) == text
    assert [output.finish_reason for output in outputs] == [None] * (len(token_ids) - 1) + [FinishReason.LENGTH]
    assert all("\N{REPLACEMENT CHARACTER}" not in output.text for output in outputs)


def test_an_unfinished_character_is_not_lost_at_the_end(tokenizer):
    token_ids = tokenizer.encode("a🙂", add_bos=False)
    outputs = feed(completion(tokenizer, max_tokens=len(token_ids) - 1), token_ids)
    assert shown(outputs) == tokenizer.decode(token_ids[:-1])


def test_the_end_of_sequence_token_ends_it_without_text(tokenizer):
    token_ids = tokenizer.encode("x = 1", add_bos=False)
    outputs = feed(completion(tokenizer), [*token_ids, EOS, *token_ids])
    assert shown(outputs) == "x = 1"
    assert outputs[-1].token_ids == (EOS,)
    assert outputs[-1].finish_reason is FinishReason.STOP


def test_ignore_eos_goes_on(tokenizer):
    outputs = feed(completion(tokenizer, ignore_eos=True, max_tokens=3), [EOS, EOS, EOS])
    assert [output.finish_reason for output in outputs] == [None, None, FinishReason.LENGTH]


def test_a_stop_string_ends_it_and_is_never_shown_in_part(tokenizer):
    token_ids = tokenizer.encode("alpha beta STOPPED gamma", add_bos=False)
    outputs = feed(completion(tokenizer, stop=("STOPPED",)), token_ids)
    assert shown(outputs) == "alpha beta "
    assert outputs[-1].finish_reason is FinishReason.STOP
    assert len(outputs) < len(token_ids)


def test_text_held_back_for_a_stop_string_is_shown_at_the_end(tokenizer):
    token_ids = tokenizer.encode("alpha STO", add_bos=False)
    outputs = feed(completion(tokenizer, stop=("STOPPED",), max_tokens=len(token_ids)), token_ids)
    assert shown(outputs) == "alpha STO"
    assert outputs[-1].finish_reason is FinishReason.LENGTH


def test_stop_strings_wait_for_min_tokens(tokenizer):
    token_ids = tokenizer.encode("a b a b a b a b", add_bos=False)
    outputs = feed(completion(tokenizer, stop=("b",), min_tokens=4, max_tokens=len(token_ids)), token_ids)
    assert len(outputs) >= 4
    assert shown(outputs).count("b") >= 1


def test_ending_for_another_reason_shows_what_was_held_back(tokenizer):
    unfinished = completion(tokenizer, stop=("STOPPED",))
    outputs = feed(unfinished, tokenizer.encode("alpha ST", add_bos=False))
    last = unfinished.end(FinishReason.DEADLINE)
    assert shown([*outputs, last]) == "alpha ST"
    assert last.finish_reason is FinishReason.DEADLINE
    assert unfinished.is_finished


def test_without_a_tokenizer_there_are_tokens_and_no_text():
    outputs = feed(completion(None, max_tokens=2), [7, 8])
    assert [output.token_ids for output in outputs] == [(7,), (8,)]
    assert shown(outputs) == ""


def test_logprobs_go_with_their_token():
    logprobs = TokenLogprobs(-0.5, (7,), (-0.5,))
    assert completion(None).append(7, logprobs).logprobs == (logprobs,)

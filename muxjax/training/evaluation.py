"""What a finished model is worth on text that it never saw."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import batched

import jax.numpy as jnp
import numpy as np

from muxjax.models.decoder import Decoder
from muxjax.models.load import LoadedModel
from muxjax.models.tokenizer import Tokenizer
from muxjax.training import arithmetic, corpus
from muxjax.training.loss import score_jit
from muxjax.training.tasks import question_about

ROWS = 16


@dataclass(frozen=True, slots=True)
class Continuation:
    """Text that a model should find likely after a prompt, and how many bytes of UTF-8 it stands for."""

    prompt: list[int]
    text: list[int]
    text_bytes: int


@dataclass(frozen=True, slots=True)
class Quality:
    """A model's figures over some continuations.

    Attributes:
        continuations: how many there were.
        text_bytes: of all of them.
        bits_per_byte: of the text, every byte scored once, prompts not counted.
        exact_match: share of continuations whose every token was the likeliest one, which is those that greedy
            decoding writes.
    """

    continuations: int
    text_bytes: int
    bits_per_byte: float
    exact_match: float


def code_continuations(tokenizer: Tokenizer) -> list[Continuation]:
    """The held-out source files of the standard library, whole."""
    return [_continuation(tokenizer, tokenizer.encode(""), text) for text in corpus.code_corpus().held_out]


def prose_continuations(tokenizer: Tokenizer) -> list[Continuation]:
    """The held-out passages of documentation, as answers to the question about their subject."""
    held_out = corpus.held_out_passages()
    prompts = [
        tokenizer.apply_chat_template([{"role": "user", "content": question_about(passage.subject)}])
        if passage.subject
        else tokenizer.encode("")
        for passage in held_out
    ]
    return [_continuation(tokenizer, prompt, passage.text) for prompt, passage in zip(prompts, held_out, strict=True)]


def arithmetic_continuations(tokenizer: Tokenizer, end: int, count: int) -> list[Continuation]:
    """Held-out sums of three-digit numbers: the answer and the end."""
    sums = [arithmetic.sum_text(int(a), int(b)) for a, b in arithmetic.held_out_pairs(count)]
    return [
        Continuation(tokenizer.encode(question), [*tokenizer.encode(answer, add_bos=False), end], len(answer))
        for question, answer in sums
    ]


def demo_continuations(name: str, model: LoadedModel, *, limit: int | None = None) -> list[Continuation]:
    """What the demo model of this name is measured on; the first `limit` of it.

    Raises:
        ValueError: the model came without a tokenizer.
    """
    if model.tokenizer is None:
        raise ValueError(f"{name} has no tokenizer: it cannot be measured on text")
    if name == "arithmetic":
        return arithmetic_continuations(model.tokenizer, model.eos_token_ids[0], limit or 10_000)
    make = {"code": code_continuations, "prose": prose_continuations}[name]
    return make(model.tokenizer)[:limit]


def evaluate(model: LoadedModel, continuations: Sequence[Continuation]) -> Quality:
    """Score the continuations under the model, in windows of its context.

    A text longer than the context is read in windows that overlap by half; each token is scored once, with at least
    half a context before it where the text has that much.
    """
    context = min(model.config.max_context, max(len(c.prompt) + len(c.text) for c in continuations))
    begin = model.tokenizer.bos_token_id if model.tokenizer is not None else None
    rows = [(index, *row) for index, c in enumerate(continuations) for row in _windows(c, context, begin or 0)]
    nll, wrong = 0.0, set[int]()
    for group in batched(rows, ROWS):
        row_nll, row_right = _score(model.decoder, [row[1:] for row in group], context)
        nll += float(row_nll.sum())
        wrong |= {index for (index, *_), right in zip(group, row_right, strict=False) if not right}
    text_bytes = sum(c.text_bytes for c in continuations)
    return Quality(
        continuations=len(continuations),
        text_bytes=text_bytes,
        bits_per_byte=nll / math.log(2) / text_bytes,
        exact_match=1 - len(wrong) / len(continuations),
    )


def _continuation(tokenizer: Tokenizer, prompt: list[int], text: str) -> Continuation:
    return Continuation(prompt, tokenizer.encode(text, add_bos=False), len(text.encode()))


def _windows(continuation: Continuation, context: int, begin: int) -> Iterator[tuple[list[int], int]]:
    """(tokens, index of the first scored one), at most context + 1 tokens each."""
    tokens = continuation.prompt + continuation.text
    yield tokens[: context + 1], len(continuation.prompt)
    done = context + 1
    while done < len(tokens):
        start = done - context // 2
        window = [begin, *tokens[start : start + context]]
        yield window, context // 2 + 1
        done = start + context


def _score(decoder: Decoder, rows: Iterable[tuple[list[int], int]], context: int) -> tuple[np.ndarray, np.ndarray]:
    """Summed nats, and whether all was right, of each row; always ROWS rows, so that one program serves all."""
    tokens = np.zeros((ROWS, context + 1), np.int32)
    scored = np.zeros((ROWS, context), bool)
    for index, (row, first) in enumerate(rows):
        tokens[index, : len(row)] = row
        scored[index, first - 1 : len(row) - 1] = True
    scores = score_jit(decoder, jnp.asarray(tokens), jnp.asarray(scored))
    return np.asarray(scores.nll.sum(axis=1)), np.asarray(scores.right.all(axis=1))

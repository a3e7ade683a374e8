"""What each demo model learns from: a tokenizer, batches to train on, and held-out batches to measure on."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tokenizers
from jaxtyping import Int32

from muxjax.training import arithmetic, corpus
from muxjax.training.batch import Batch
from muxjax.training.tokenizers import ASSISTANT, BEGIN, END, USER, arithmetic_tokenizer, train_byte_level_bpe


class Task(Protocol):
    """Where batches come from."""

    tokenizer: tokenizers.Tokenizer

    def training_batch(self, rows: int, rng: np.random.Generator) -> Batch:
        """Random rows to train on."""

    def held_out_batch(self) -> Batch:
        """A fixed sample of held-out rows, a few seconds' worth."""


class TextTask:
    """Next-token prediction over documents: windows that start with the begin token and then at a line's start."""

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, training: Sequence[str], held_out: Sequence[str], context: int
    ) -> None:
        self.tokenizer = tokenizer
        self._context = context
        self._begin = tokenizer.token_to_id(BEGIN)
        self._training = _token_stream(tokenizer, training)
        self._held_out = _token_stream(tokenizer, held_out)
        self._starts = self._line_starts(self._training)

    def training_batch(self, rows: int, rng: np.random.Generator) -> Batch:
        return self._windows(self._training, rng.choice(self._starts, size=rows))

    def held_out_batch(self, rows: int = 48) -> Batch:
        starts = self._line_starts(self._held_out)
        return self._windows(self._held_out, np.random.default_rng(0).choice(starts, size=rows, replace=False))

    def _windows(self, stream: Int32[np.ndarray, " tokens"], starts: Int32[np.ndarray, " rows"]) -> Batch:
        tokens = stream[starts[:, None] + np.arange(-1, self._context)]
        tokens[:, 0] = self._begin
        return Batch(tokens, np.ones((len(starts), self._context), bool))

    def _line_starts(self, stream: Int32[np.ndarray, " tokens"]) -> Int32[np.ndarray, " lines"]:
        """Positions whose token starts a line or a document and has a whole window after it."""
        vocabulary = self.tokenizer.get_vocab()
        ends_line = np.zeros(len(vocabulary), bool)
        for token, index in vocabulary.items():
            ends_line[index] = token == BEGIN or token.startswith("Ċ")  # the byte-level alphabet's newline
        starts = np.flatnonzero(ends_line[stream]) + 1
        starts = starts[starts + self._context <= len(stream)]
        if not len(starts):
            raise corpus.CorpusError(f"the corpus is shorter than one context of {self._context} tokens")
        return starts


class ArithmeticTask:
    """Sums, one a row; only the answer and its end count."""

    ROW = 14  # <|begin|> 999+999= 1998 <|end|>

    def __init__(self) -> None:
        self.tokenizer = arithmetic_tokenizer()
        self._held_out = arithmetic.held_out_table()

    def training_batch(self, rows: int, rng: np.random.Generator) -> Batch:
        return self.rows(arithmetic.training_pairs(rows, rng, self._held_out))

    def held_out_batch(self, rows: int = 2000) -> Batch:
        return self.rows(arithmetic.held_out_pairs(rows))

    def rows(self, pairs: np.ndarray) -> Batch:
        """The sums of pairs [rows, 2] as a batch."""
        end = self.tokenizer.token_to_id(END)
        tokens = np.full((len(pairs), self.ROW), end, np.int32)
        scored = np.zeros((len(pairs), self.ROW - 1), bool)
        sums = [arithmetic.sum_text(int(a), int(b)) for a, b in pairs]
        encodings = self.tokenizer.encode_batch([question + answer for question, answer in sums])
        for row, ((_, answer), encoding) in enumerate(zip(sums, encodings, strict=True)):
            length = len(encoding.ids)
            tokens[row, :length] = encoding.ids
            scored[row, length - len(answer) - 1 : length] = True
        return Batch(tokens, scored)


def code_task(context: int, vocab_size: int) -> TextTask:
    """The standard library's source."""
    split = corpus.code_corpus()
    tokenizer = train_byte_level_bpe(split.training, vocab_size, (BEGIN, END))
    return TextTask(tokenizer, split.training, split.held_out, context)


def prose_task(context: int, vocab_size: int) -> TextTask:
    """The standard library's documentation: a passage with a name as the answer of a short chat, others as they are."""
    training, held_out = corpus.prose_corpus()
    tokenizer = train_byte_level_bpe((p.text for p in training), vocab_size, (BEGIN, END, USER, ASSISTANT))
    return TextTask(tokenizer, [_told(p) for p in training], [_told(p) for p in held_out], context)


def question_about(subject: str) -> str:
    """How a user of the prose model asks for a passage; the subject's length decides between phrasings."""
    phrasings = ("{}", "What is {}?", "What does {} do?", "Explain {}.")
    return phrasings[len(subject) % len(phrasings)].format(subject)


def _told(passage: corpus.Passage) -> str:
    """One passage as the prose model reads it."""
    return f"{USER}{question_about(passage.subject)}{ASSISTANT}{passage.text}" if passage.subject else passage.text


def _token_stream(tokenizer: tokenizers.Tokenizer, documents: Sequence[str]) -> Int32[np.ndarray, " tokens"]:
    """All documents in a row, each between the begin and the end token."""
    end = tokenizer.token_to_id(END)
    encodings = tokenizer.encode_batch_fast(list(documents))
    return np.concatenate([np.asarray([*encoding.ids, end], np.int32) for encoding in encodings])

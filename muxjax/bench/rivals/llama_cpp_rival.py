"""llama.cpp through llama-cpp-python's low-level interface: all prompts as parallel sequences of one batch."""

import ctypes
import tempfile
import time
from pathlib import Path
from typing import Any

import llama_cpp  # type: ignore[import-not-found]
import numpy as np

from .gguf_weights import write_gguf
from .rival import Rival

_BATCH_TOKENS = 2048


class LlamaCppRival(Rival):
    """A model on the CPU; keys and values in llama.cpp's default type."""

    def __init__(self, path: Path, threads: int) -> None:
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise RuntimeError("llama.cpp cannot load the converted model")
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._threads = threads
        self._batch = llama_cpp.llama_batch_init(_BATCH_TOKENS, 0, 1)
        self._context: Any = None
        self._context_shape = (0, 0)

    @property
    def versions(self) -> dict[str, str]:
        return {"llama-cpp-python": llama_cpp.__version__}

    def generate(self, prompts: list[list[int]], max_tokens: int) -> tuple[list[float], list[list[int]]]:
        self._prepare(len(prompts), len(prompts[0]) + max_tokens)
        started = time.perf_counter()
        tokens = self._prefill(prompts)
        token_ids, token_times = [tokens], [time.perf_counter() - started]
        for position in range(len(prompts[0]), len(prompts[0]) + max_tokens - 1):
            tokens = self._decode([(token, position, index, True) for index, token in enumerate(tokens)])
            token_ids.append(tokens)
            token_times.append(time.perf_counter() - started)
        return token_times, [list(column) for column in zip(*token_ids, strict=True)]

    def _prepare(self, sequences: int, tokens: int) -> None:
        """An empty context for so many sequences, kept from call to call."""
        if self._context_shape != (sequences, tokens):
            if self._context:
                llama_cpp.llama_free(self._context)
            parameters = llama_cpp.llama_context_default_params()
            parameters.n_ctx = sequences * -(-tokens // 256) * 256  # each sequence's share is rounded so by llama.cpp
            parameters.n_seq_max = sequences
            parameters.n_batch = _BATCH_TOKENS
            parameters.n_threads = parameters.n_threads_batch = self._threads
            self._context = llama_cpp.llama_init_from_model(self._model, parameters)
            if not self._context:
                raise RuntimeError(f"llama.cpp cannot make a context for {sequences} sequences of {tokens} tokens")
            self._context_shape = (sequences, tokens)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def _prefill(self, prompts: list[list[int]]) -> list[int]:
        """As many whole prompts at a time as a batch holds."""
        length = len(prompts[0])
        at_once = max(1, _BATCH_TOKENS // length)
        tokens: list[int] = []
        for first in range(0, len(prompts), at_once):
            entries = [
                (token, position, first + index, position == length - 1)
                for index, prompt in enumerate(prompts[first : first + at_once])
                for position, token in enumerate(prompt)
            ]
            tokens += self._decode(entries)
        return tokens

    def _decode(self, entries: list[tuple[int, int, int, bool]]) -> list[int]:
        """Run (token, position, sequence, wants logits) rows; returns the likeliest tokens of those that want them."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for row, (token, position, sequence, wants_logits) in enumerate(entries):
            batch.token[row] = token
            batch.pos[row] = position
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = sequence
            batch.logits[row] = wants_logits
        if code := llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode failed with {code}")
        return [self._likeliest(row) for row, entry in enumerate(entries) if entry[3]]

    def _likeliest(self, row: int) -> int:
        address = ctypes.cast(
            llama_cpp.llama_get_logits_ith(self._context, row), ctypes.POINTER(ctypes.c_float * self._vocab_size)
        )
        return int(np.frombuffer(address.contents, np.float32).argmax())


def load(directory: Path, dtype: str, threads: int) -> Rival:
    """The model of a Hugging Face directory, converted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        write_gguf(directory, path, dtype)
        return LlamaCppRival(path, threads)

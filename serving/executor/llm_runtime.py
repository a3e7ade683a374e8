"""One LLM on the device: its weights, its sequences' slots, its table of pages and its programs."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.stages import Compiled
from jaxtyping import Array, Int32

from muxjax.models.load import LoadedModel
from muxjax.models.spread import make_mesh
from muxjax.pallas_kernels.implementation import Implementation
from muxjax.serving.completion import Completion
from muxjax.serving.executor.buckets import (
    MAX_PREFILL_SEQUENCES,
    coarse,
    decode_buckets,
    prefill_buckets,
    smallest_bucket,
)
from muxjax.serving.executor.compiled import CompiledPrograms, ProgramKey
from muxjax.serving.executor.program import (
    DecodeInputs,
    JobInputs,
    LLMInputs,
    PrefillInputs,
    Programs,
    sample_next,
    update_page_blocks,
)
from muxjax.serving.executor.slots import SamplingTable, SlotState
from muxjax.serving.executor.spmd import STATE, VOCABULARY, WHOLE, spec_of, spread, spread_step
from muxjax.serving.pool import Pool
from muxjax.serving.sampling import Sampled
from muxjax.serving.scheduler.job import Chunk, Job, JobKind
from muxjax.serving.spec import LLMSpec

_PAGES_PER_UPDATE = 32


class Program(NamedTuple):
    """What runs jobs of one LLM or of several: the models, and then a sampler for each job of each LLM."""

    forward: Compiled
    samplers: tuple[tuple[Compiled, ...], ...]

    @property
    def own_bytes(self) -> int:
        """Memory that it takes beside its arguments while it runs: temporary arrays, and results in none of them."""
        programs = (self.forward, *chain.from_iterable(self.samplers))
        return max(_own_bytes(program) for program in programs)


class LLMRuntime:
    """Builds the inputs of one LLM's jobs, keeps its state on the device and samples its tokens."""

    def __init__(
        self,
        spec: LLMSpec,
        model: LoadedModel,
        pool: Pool,
        pool_shape: jax.ShapeDtypeStruct,
        *,
        max_context: int,
        max_prefill_tokens: int,
        background: ThreadPoolExecutor,
        mesh: Mesh | None = None,
        implementation: Implementation | None = None,
    ) -> None:
        """`pool` holds the LLM's pages already; `background` compiles what is wanted later.

        `model` was loaded to `mesh`; None is the first device.

        `implementation` of the attention kernels: None takes the best one here.
        """
        self.spec = spec
        self.model = model
        self._pool = pool
        self._pool_shape = pool_shape
        config = model.config
        self._max_pages = -(-max_context // pool.page_tokens(spec.name))
        self.mesh = mesh or make_mesh(jax.devices()[:1])
        self._whole = NamedSharding(self.mesh, WHOLE)
        self._columns = -(-config.vocab_size // self.mesh.size) * self.mesh.size
        self._table = SamplingTable(spec.max_sequences, config.vocab_size, self._whole)
        self.reset()
        model.decoder.unroll()  # a scan would copy each layer's weights out of their stack, step by step
        graph, params = nnx.split(model.decoder)
        leaves, structure = jax.tree.flatten(params)
        self._leaves = tuple(leaves)
        self.functions = Programs(
            graph,
            structure,
            head_dim=pool.block_elements // pool.page_tokens(spec.name),
            max_context=max_context,
            length_switch=config.length_switch,
            implementation=implementation,
        )
        # A bfloat16 matmul of one row is an order of magnitude slower than one of two on CPUs (XLA).
        min_rows = 1 if spec.dtype == "float32" else 2
        self._samplers: dict[int, Future[Compiled]] = {}
        self._samplers_lock = threading.Lock()
        self._buckets = {
            JobKind.DECODE: decode_buckets(spec.max_sequences, min_rows),
            JobKind.PREFILL: prefill_buckets(max_prefill_tokens),
        }
        self._programs: CompiledPrograms[Program] = CompiledPrograms(self._compile, self._buckets, background)
        self._update_page_blocks = jax.jit(update_page_blocks, donate_argnums=0)
        load_counts = spread(SlotState.load_counts, self.mesh, (STATE, WHOLE, WHOLE, WHOLE), STATE)
        self._load_counts = jax.jit(load_counts, donate_argnums=0)

    @property
    def slot_bytes(self) -> int:
        """Memory of what the device keeps of each slot's sequence."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves((self._state, self._table.on_device())))

    @property
    def programs(self) -> Mapping[ProgramKey, Program]:
        """The programs compiled so far."""
        return self._programs.compiled

    def compile_needed(self, workers: ThreadPoolExecutor) -> Iterator[tuple[int, int]]:
        """Compile what any job may need; yields how many programs are done, and of how many."""
        keys = self._programs.needed_keys()
        yield 0, len(keys)
        compiling = [workers.submit(self._programs.compile, key) for key in keys]
        try:
            for done, finished in enumerate(as_completed(compiling), start=1):
                finished.result()
                yield done, len(keys)
        finally:
            for future in compiling:
                future.cancel()

    def compile_common(self) -> None:
        """Compile in the background what a single user, and a few, will want."""
        self._programs.request(JobKind.DECODE, 1)
        self._programs.request(JobKind.DECODE, min(MAX_PREFILL_SEQUENCES, self.spec.max_sequences))
        self._programs.request(JobKind.PREFILL, 1)

    def close(self) -> None:
        """It runs no more: compile nothing for it."""
        self._programs.close()

    def reset(self) -> None:
        """Forget all sequences, after the device lost its state."""
        empty = SlotState.empty(self.spec.max_sequences, self._columns)
        self._state = jax.device_put(empty, jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), STATE))
        self._page_blocks = jax.device_put(self._pool.page_blocks(self.spec.name).copy(), self._whole)

    def find(self, job: Job) -> tuple[int, Program]:
        """A program for a job by itself, and its size."""
        return self._programs.find(job.kind, _num_rows(job))

    def packed_size(self, job: Job) -> int:
        """The size of a job in a packed program."""
        buckets = self._buckets[job.kind]
        return smallest_bucket(coarse(buckets) if job.kind is JobKind.DECODE else buckets, _num_rows(job))

    def inputs(
        self, jobs: Iterable[Job], sizes: Iterable[int], completions: Mapping[int, Completion]
    ) -> LLMInputs[np.ndarray]:
        """What the LLM brings into a program for these jobs, each padded to its size.

        The device's slots and pages are up to date then with what the scheduler booked for the jobs.
        """
        rows = []
        for job, size in zip(jobs, sizes, strict=True):
            for chunk in job.chunks:
                if chunk.start == 0:
                    self._bind_slot(_slot(chunk), completions[chunk.sequence.id])
            rows.append(self._job_inputs(job, size, completions))
        self._send_new_pages()
        return LLMInputs(self._leaves, self._page_blocks, self._state.last_tokens, tuple(rows))

    def advance(self, inputs: LLMInputs[np.ndarray]) -> LLMInputs[np.ndarray]:
        """The inputs of the same decodes one token later, whose pages the device knows already."""
        rows = tuple(job._replace(kv_lens=job.kv_lens + (job.kv_lens > 0)) for job in inputs.jobs)
        return inputs._replace(last_tokens=self._state.last_tokens, jobs=rows)

    def sample(
        self, samplers: Iterable[Compiled], inputs: LLMInputs[np.ndarray], logits: Iterable[jax.Array]
    ) -> list[Sampled]:
        """Choose the next tokens of jobs that were just dispatched."""
        chosen = []
        for sampler, job, of_job in zip(samplers, inputs.jobs, logits, strict=True):
            self._state, sampled = sampler(self._state, self._table.on_device(), job.slots, job.kv_lens, of_job)
            chosen.append(sampled)
        return chosen

    def _bind_slot(self, slot: int, completion: Completion) -> None:
        """Give a sequence that begins, or begins again, its slot's options and counts."""
        sampling = completion.request.sampling
        prompt_length = len(completion.request.prompt_token_ids)
        self._table.set(slot, sampling, index=completion.index, prompt_length=prompt_length, end_ids=completion.end_ids)
        if sampling.repetition_penalty != 1 or sampling.presence_penalty != 0 or sampling.frequency_penalty != 0:
            size = 1 << (len(completion.token_ids) - 1).bit_length()
            token_ids = np.full(size, self.model.config.vocab_size, np.int32)
            token_ids[: len(completion.token_ids)] = completion.token_ids
            is_output = np.arange(size) >= prompt_length
            self._state = self._load_counts(self._state, np.int32(slot), token_ids, is_output)

    def _send_new_pages(self) -> None:
        """Bring the device's table of head blocks up to date with the pool's."""
        new_pages = self._pool.take_new_pages(self.spec.name)
        host = self._pool.page_blocks(self.spec.name)
        for start in range(0, new_pages.size, _PAGES_PER_UPDATE):
            part = new_pages[start : start + _PAGES_PER_UPDATE]
            self._send_pages(part, host[:, part])

    def _send_pages(self, new: Int32[np.ndarray, "new"], blocks: Int32[np.ndarray, "layers new kv_heads"]) -> None:
        layers, pages, kv_heads = self._page_blocks.shape
        padded = np.full(_PAGES_PER_UPDATE, pages, np.int32)
        padded[: new.size] = new
        rows = np.zeros((layers, _PAGES_PER_UPDATE, kv_heads), np.int32)
        rows[:, : new.size] = blocks
        self._page_blocks = self._update_page_blocks(self._page_blocks, padded, rows)

    def _job_inputs(self, job: Job, size: int, completions: Mapping[int, Completion]) -> JobInputs[np.ndarray]:
        """A job's rows, padded to a program's size.

        They are NumPy arrays, which the program's call takes to the device ten times faster than jax.device_put does.
        """
        if job.kind is JobKind.DECODE:
            return DecodeInputs(*self._sequence_rows(job.chunks, size))
        token_ids = np.zeros(size, np.int32)
        query_start_loc = np.full(MAX_PREFILL_SEQUENCES + 1, job.num_tokens, np.int32)
        lengths = np.zeros(MAX_PREFILL_SEQUENCES, np.int32)
        row = 0
        for index, chunk in enumerate(job.chunks):
            query_start_loc[index] = row
            prompt = completions[chunk.sequence.id].token_ids
            token_ids[row : row + chunk.length] = prompt[chunk.start : chunk.start + chunk.length]
            lengths[index] = len(prompt)
            row += chunk.length
        rows = self._sequence_rows(job.chunks, MAX_PREFILL_SEQUENCES)
        return PrefillInputs(token_ids, query_start_loc, *rows, lengths)

    def _sequence_rows(
        self, chunks: tuple[Chunk, ...], size: int
    ) -> tuple[Int32[np.ndarray, "seqs"], Int32[np.ndarray, "seqs"], Int32[np.ndarray, "seqs max_pages"]]:
        """Slot, length and pages of each sequence, padded to `size` rows."""
        nobody = self.spec.max_sequences
        slots = np.full(size, nobody, np.int32)
        kv_lens = np.zeros(size, np.int32)
        page_table = np.zeros((size, self._max_pages), np.int32)
        for row, chunk in enumerate(chunks):
            slots[row] = _slot(chunk) if chunk.samples else nobody
            kv_lens[row] = chunk.start + chunk.length
        ids = [chunk.sequence.id for chunk in chunks]
        page_table[: len(chunks)] = self._pool.page_tables(self.spec.name, ids, self._max_pages)
        return slots, kv_lens, page_table

    def shapes(self, sizes: Mapping[JobKind, int]) -> LLMInputs[Array]:
        """What `inputs` gives for jobs of these sizes, as a program is compiled for it."""
        jobs = (self._job_inputs(Job(self.spec.name, kind, ()), size, {}) for kind, size in sizes.items())
        return self._shapes(LLMInputs(self._leaves, self._page_blocks, self._state.last_tokens, tuple(jobs)))

    def _compile(self, key: ProgramKey) -> Program:
        return compile_step([self], self._pool_shape, [{key.kind: key.size}])

    def sampler(self, kind: JobKind, size: int) -> Compiled:
        """The sampler for jobs of this size, compiled by the first who asks; others wait for it."""
        seqs = size if kind is JobKind.DECODE else MAX_PREFILL_SEQUENCES
        with self._samplers_lock:
            is_first = seqs not in self._samplers
            future = self._samplers.setdefault(seqs, Future())
        if is_first:
            try:
                future.set_result(self._compile_sampler(seqs))
            except Exception as error:
                future.set_exception(error)
        return future.result()

    def _compile_sampler(self, seqs: int) -> Compiled:
        row = jax.ShapeDtypeStruct((seqs,), jnp.int32, sharding=self._whole)
        by_token = NamedSharding(self.mesh, VOCABULARY)
        logits = jax.ShapeDtypeStruct((seqs, self._columns), jnp.float32, sharding=by_token)
        arguments = self._shapes(self._state), self._table.shapes
        sample = spread(sample_next, self.mesh, (STATE, WHOLE, WHOLE, WHOLE, VOCABULARY), (STATE, WHOLE))
        return jax.jit(sample, donate_argnums=0).lower(*arguments, row, row, logits).compile()

    def _shapes(self, arrays: Any) -> Any:
        """What a program is compiled for: these arrays, where they are; on all devices those of the host."""

        def shape_of(array: jax.Array | np.ndarray) -> jax.ShapeDtypeStruct:
            spec = spec_of(array) if isinstance(array, jax.Array) else WHOLE
            return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=NamedSharding(self.mesh, spec))

        return jax.tree.map(shape_of, arrays)


def _slot(chunk: Chunk) -> int:
    if chunk.sequence.slot is None:
        raise ValueError(f"sequence {chunk.sequence.id} is in a job without a slot")
    return chunk.sequence.slot


def _own_bytes(program: Compiled) -> int:
    memory = program.memory_analysis()
    if memory is None:
        return 0
    return int(memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes)


def _num_rows(job: Job) -> int:
    return len(job.chunks) if job.kind is JobKind.DECODE else job.num_tokens


def compile_step(
    llms: Sequence[LLMRuntime],
    pool: jax.ShapeDtypeStruct,
    sizes: Sequence[Mapping[JobKind, int]],
    compiler_options: Mapping[str, str] | None = None,
) -> Program:
    """The program that runs jobs of these sizes, of each LLM some, on the donated pool.

    Its `forward(pool, inputs of each LLM)` gives the pool and the logits of each LLM's jobs. `compiler_options` are
    XLA's.
    """
    shapes = tuple(llm.shapes(of_one) for llm, of_one in zip(llms, sizes, strict=True))
    step = spread_step([llm.functions for llm in llms], llms[0].mesh, shapes)
    lowered = jax.jit(step, donate_argnums=0).lower(pool, shapes)
    forward = lowered.compile(compiler_options=dict(compiler_options or {}))
    samplers = tuple(
        tuple(llm.sampler(kind, size) for kind, size in of_one.items()) for llm, of_one in zip(llms, sizes, strict=True)
    )
    return Program(forward, samplers)

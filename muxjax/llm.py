"""Several LLMs in this process, without a server."""

import queue
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from muxjax.allocator import keep_freed_memory
from muxjax.compile_cache import keep_compiled_programs
from muxjax.config import config_of
from muxjax.config.unit import first_devices, unit_spec
from muxjax.device import check_device
from muxjax.device_share import take_memory_share
from muxjax.serving.endpoint import Chat, Endpoint, Prompt
from muxjax.serving.engine import Engine
from muxjax.serving.errors import UnknownModel
from muxjax.serving.memory import fit_pool
from muxjax.serving.plan import PlanError, plan_unit
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.request import FinishReason, Output, SamplingParams, TokenLogprobs
from muxjax.serving.unit import UnitStatus
from muxjax.serving.validation import validate


class LoadError(Exception):
    """An LLM could not be loaded; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion of one prompt.

    Attributes:
        prompt: the prompt's place in the list that was given.
        index: which of the prompt's n completions.
        token_ids: the tokens, the one that ended it included.
        text: their text; empty for an LLM without a tokenizer.
        logprobs: one entry per token if they were asked for.
        finish_reason: why it ended.
    """

    prompt: int
    index: int
    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprobs, ...]
    finish_reason: FinishReason


class LLM:
    """LLMs that share one device, or several, and one pool, called from Python.

        llm = LLM({"a": "path/to/checkpoint", "b": {"source": "demo:code", "rate": 4}})
        llm.generate("a", prompts=["..."], sampling=SamplingParams(temperature=0, max_tokens=8))[0].text

    The sources and all settings are those of the configuration file (docs/configuration.md). `generate` may be called
    from several threads at once; their requests run together.
    """

    def __init__(self, llms: Mapping[str, str | Mapping[str, object]], **sections: object) -> None:
        """Load and compile all LLMs.

        `sections` are the configuration's, such as `pool={"memory": "1GiB"}` or `tensor_parallel=2`.

        Raises:
            ConfigurationError: settings that cannot be, or LLMs and a pool that do not fit together.
            LoadError: a checkpoint that cannot be loaded.
            DeviceError: JAX cannot use the GPU that it is installed for.
        """
        loaded = config_of({"llms": dict(llms), **sections})
        config = loaded.config
        take_memory_share(config.device.memory_share)
        check_device()
        try:
            spec = unit_spec(config)
            devices = first_devices(spec)
            plan = plan_unit(fit_pool(spec, devices))
        except PlanError as error:
            raise loaded.error(str(error).splitlines()) from error
        keep_freed_memory()  # for the whole process: a step's temporaries cost more page faults than arithmetic else
        if config.compile.cache is not None:
            keep_compiled_programs(config.compile.cache)
        news: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        self._engine = Engine(plan, news.put, devices=devices)
        self._engine.start()
        self._endpoints: dict[str, Endpoint] = {}
        while len(self._endpoints) < len(config.llms):
            progress = news.get()
            if progress.state is LLMState.FAILED:
                self.close()
                raise LoadError(f"{progress.llm}: {progress.error}")
            if progress.endpoint is not None:
                self._endpoints[progress.llm] = progress.endpoint

    def generate(
        self,
        llm: str,
        prompts: Sequence[str | Chat] = (),
        *,
        prompt_token_ids: Sequence[Sequence[int]] = (),
        sampling: SamplingParams | None = None,
    ) -> list[Completion]:
        """Complete all prompts together.

        Args:
            llm: which LLM.
            prompts: texts or conversations.
            prompt_token_ids: prompts as token ids; they come after `prompts`.
            sampling: for all of them; by default, what the model's generation_config.json says.

        Returns:
            The completions, prompt by prompt, n for each.

        Raises:
            UnknownModel, InvalidRequest, RefusedError: nothing was generated.
            RuntimeError: the engine could not finish a completion.
        """
        if llm not in self._endpoints:
            raise UnknownModel(llm, self._endpoints)
        endpoint = self._endpoints[llm]
        raw = {} if sampling is None else asdict(sampling)
        everything: list[Prompt] = [*prompts, *prompt_token_ids]
        requests = [validate(endpoint, endpoint.encode(prompt), raw) for prompt in everything]
        outputs: queue.SimpleQueue[Sequence[Output]] = queue.SimpleQueue()
        submitted = []
        try:
            for request in requests:
                self._engine.submit(request, outputs.put)
                submitted.append(request.id)
            collected = _collect(outputs, sum(request.sampling.n for request in requests))
        except BaseException:
            for request_id in submitted:
                self._engine.abort(request_id)
            raise
        return [
            _completion(prompt, index, collected[request.id, index])
            for prompt, request in enumerate(requests)
            for index in range(request.sampling.n)
        ]

    def status(self) -> UnitStatus:
        """Who holds what of the pool, and how much work there was."""
        return self._engine.status()

    def close(self) -> None:
        """Stop the engine; what still runs is lost."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _collect(outputs: queue.SimpleQueue[Sequence[Output]], num: int) -> dict[tuple[str, int], list[Output]]:
    """Wait until so many completions have ended."""
    collected: dict[tuple[str, int], list[Output]] = defaultdict(list)
    while num:
        for output in outputs.get():
            collected[output.request_id, output.index].append(output)
            num -= output.finish_reason is not None
    return collected


def _completion(prompt: int, index: int, outputs: list[Output]) -> Completion:
    reason = outputs[-1].finish_reason
    if reason is None or reason in (FinishReason.ERROR, FinishReason.ABORT):
        raise RuntimeError(f"prompt {prompt} was not finished: {outputs[-1].error or reason}")
    return Completion(
        prompt,
        index,
        token_ids=tuple(token for output in outputs for token in output.token_ids),
        text="".join(output.text for output in outputs),
        logprobs=tuple(entry for output in outputs for entry in output.logprobs),
        finish_reason=reason,
    )

"""Real engines over small random LLMs, for the tests of everything that runs on one."""

import json
import queue
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from muxjax.serving.engine import Engine
from muxjax.serving.plan import plan_unit
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.request import FinishReason, Output, Request, SamplingParams, TokenLogprobs
from muxjax.serving.spec import LLMSpec, PoolSpec, SchedulingSpec, UnitSpec

# Head sizes, depths and head counts that differ, so that the LLMs' pages do.
SHAPES: Mapping[str, Mapping[str, object]] = {
    "small": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 32,
    },
    "odd": {
        "hidden_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 20,
    },
    "wide": {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 128,
    },
}
VOCAB = 131
MAX_CONTEXT = 320


def write_configs(directory: Path) -> dict[str, str]:
    """A `random:` source for each shape."""
    sources = {}
    for name, shape in SHAPES.items():
        config = {
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": VOCAB,
            "intermediate_size": 72,
            "max_position_embeddings": MAX_CONTEXT,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            **shape,
        }
        path = directory / f"{name}.json"
        path.write_text(json.dumps(config))
        sources[name] = f"random:{path}"
    return sources


def unit_spec(
    sources: Mapping[str, str], *, num_blocks: int = 2000, policy: str = "adbs", **changed: object
) -> UnitSpec:
    """A unit of these LLMs; `changed` are fields of LLMSpec or SchedulingSpec."""
    scheduling_fields = {"max_prefill_tokens", "quota_period", "overlap", "max_decode_steps"}
    scheduling = {name: value for name, value in changed.items() if name in scheduling_fields}
    llm = {"max_sequences": 8, **{name: value for name, value in changed.items() if name not in scheduling_fields}}
    return UnitSpec(
        tuple(LLMSpec(name, source, **llm) for name, source in sources.items()),
        PoolSpec(num_blocks),
        SchedulingSpec(policy, **{"max_prefill_tokens": 64, **scheduling}),
    )


@dataclass
class Result:
    """Everything one completion produced."""

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: str | None = None


class Client:
    """Collects the outputs of the requests it submits, as a frontend would."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.results: dict[tuple[str, int], Result] = {}
        self._outputs: queue.SimpleQueue[Output] = queue.SimpleQueue()

    def submit(self, request: Request) -> None:
        for index in range(request.sampling.n):
            self.results[request.id, index] = Result()
        self.engine.submit(request, self.deliver)

    def deliver(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self._outputs.put(output)

    def take(self, timeout: float = 60.0) -> Output:
        """The next output, already added to its result."""
        output = self._outputs.get(timeout=timeout)
        result = self.results[output.request_id, output.index]
        assert result.finish_reason is None, f"an output after the last one: {output}"
        result.token_ids += output.token_ids
        result.text += output.text
        result.logprobs += output.logprobs
        result.finish_reason = output.finish_reason
        result.error = output.error
        return output

    @property
    def is_waiting(self) -> bool:
        """Whether any completion has not ended."""
        return any(result.finish_reason is None for result in self.results.values())

    def wait(self) -> dict[tuple[str, int], Result]:
        """All results, when every request has ended."""
        while self.is_waiting:
            self.take()
        return self.results

    def submit_prompt(self, request_id: str, llm: str, prompt: Iterable[int], sampling: SamplingParams) -> None:
        self.submit(Request(request_id, llm, tuple(prompt), sampling))

    def run_prompt(self, request_id: str, llm: str, prompt: Iterable[int], sampling: SamplingParams) -> Result:
        return self.run(Request(request_id, llm, tuple(prompt), sampling))

    def run(self, request: Request) -> Result:
        """One request from beginning to end."""
        self.submit(request)
        return self.wait()[request.id, 0]


@contextmanager
def running(spec: UnitSpec) -> Iterator[Engine]:
    """An engine whose LLMs are all ready; its pool must be empty and in order at the end."""
    news: queue.SimpleQueue[Progress] = queue.SimpleQueue()
    engine = Engine(plan_unit(spec), news.put)
    engine.start()
    try:
        left = {llm.name for llm in spec.llms}
        while left:
            progress = news.get(timeout=120)
            assert progress.state is not LLMState.FAILED, progress.error
            if progress.state is LLMState.READY:
                left.remove(progress.llm)
        yield engine
    finally:
        engine.close()
    status = engine.status()
    assert status.blocks_free == status.blocks_total, "blocks leaked"


def wait_until_ready(engine: Engine, seconds: float = 120.0) -> None:
    """Until all its LLMs are."""
    deadline = time.monotonic() + seconds
    while any(llm.state != LLMState.READY for llm in engine.status().llms):
        assert time.monotonic() < deadline, engine.status()
        time.sleep(0.01)


def greedy(max_tokens: int, **changed: object) -> SamplingParams:
    """Greedy decoding without an end."""
    return SamplingParams(temperature=0, max_tokens=max_tokens, **changed)

"""How a unit's pool is divided, before any weight is loaded."""

from dataclasses import dataclass

from muxjax.models.config import DecoderConfig
from muxjax.models.errors import ModelError
from muxjax.models.load import check_tensor_parallel, load_config, weight_bytes
from muxjax.models.sharding import kv_heads_per_device
from muxjax.serving.executor.buckets import MAX_PREFILL_SEQUENCES
from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.policies import make_policy
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.share import LLMShare
from muxjax.serving.spec import SLO, LLMSpec, PoolSpec, SchedulingSpec, UnitSpec


class PlanError(Exception):
    """The unit cannot be; the message lists everything that is wrong, a line each."""


@dataclass(frozen=True, slots=True)
class LLMPlan:
    """One LLM's part of the unit.

    Attributes:
        spec: what was asked for.
        config: the decoder's shape.
        max_context: the most tokens of one sequence.
        page_tokens: tokens of a page.
        page_blocks: head blocks of a page, on each device.
        quota: head blocks that it may hold at the start.
        tensor_parallel: over how many devices it is spread.
    """

    spec: LLMSpec
    config: DecoderConfig
    max_context: int
    page_tokens: int
    page_blocks: int
    quota: int
    tensor_parallel: int = 1

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.spec.name

    @property
    def weight_bytes(self) -> int:
        """Memory of its weights on each device."""
        return weight_bytes(
            self.spec.source,
            dtype=self.spec.dtype,
            quantization=self.spec.quantization,
            devices=self.tensor_parallel,
        )

    @property
    def kv_heads(self) -> int:
        """How many KV heads each device has."""
        return kv_heads_per_device(self.config, self.tensor_parallel)

    @property
    def quota_tokens(self) -> int:
        """Tokens whose keys and values fit in its quota."""
        return self.quota // self.page_blocks * self.page_tokens


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """A unit that fits together."""

    llms: tuple[LLMPlan, ...]
    pool: PoolSpec
    scheduling: SchedulingSpec
    tensor_parallel: int = 1

    @property
    def block_bytes(self) -> int:
        """Memory of one head block, its keys and its values."""
        return self.pool.block_bytes

    @property
    def pool_bytes(self) -> int:
        """Memory of the pool on each device."""
        return self.pool.num_blocks * self.block_bytes


def plan_unit(spec: UnitSpec) -> UnitPlan:
    """Read the LLMs' configurations and divide the pool among them.

    Raises:
        PlanError: configurations that cannot be read, LLMs that cannot be spread over so many devices, or a pool that
            does not hold one sequence of each LLM.
    """
    configs, problems = _read_configs(spec)
    if problems:
        raise PlanError("\n".join(problems))
    contexts = {llm.name: _max_context(llm, configs[llm.name]) for llm in spec.llms}
    pool = Pool(spec.pool.num_blocks, spec.pool.block_elements)
    if problems := _fill_pool(pool, spec, configs, contexts):
        raise PlanError("\n".join(problems))
    shares = {llm.name: share_of(llm, configs[llm.name], contexts[llm.name], spec.scheduling) for llm in spec.llms}
    quotas = make_policy(spec.scheduling.policy).initial_quotas(pool, shares)
    llms = tuple(
        LLMPlan(
            llm,
            configs[llm.name],
            contexts[llm.name],
            pool.page_tokens(llm.name),
            pool.blocks_per_page(llm.name),
            quotas[llm.name],
            spec.tensor_parallel,
        )
        for llm in spec.llms
    )
    return UnitPlan(llms, spec.pool, spec.scheduling, spec.tensor_parallel)


def extend_plan(plan: UnitPlan, spec: LLMSpec) -> UnitPlan:
    """The unit with an LLM more, the last one, or one by the same name in its place. Raises PlanError."""
    others = tuple(llm.spec for llm in plan.llms if llm.name != spec.name)
    return plan_unit(UnitSpec((*others, spec), plan.pool, plan.scheduling, plan.tensor_parallel))


def build_scheduler(plan: UnitPlan) -> tuple[Pool, Scheduler]:
    """The pool's books and the scheduler that keeps them, as planned."""
    pool = Pool(plan.pool.num_blocks, plan.pool.block_elements)
    for llm in plan.llms:
        pool.add_llm(llm.name, llm.config.num_layers, llm.kv_heads, llm.config.head_dim)
    scheduler = Scheduler(
        pool,
        {llm.name: share_of(llm.spec, llm.config, llm.max_context, plan.scheduling) for llm in plan.llms},
        make_policy(plan.scheduling.policy, quota_period=plan.scheduling.quota_period),
        max_prefill_tokens=plan.scheduling.max_prefill_tokens,
        max_prefill_sequences=MAX_PREFILL_SEQUENCES,
        max_waiting=plan.scheduling.max_waiting,
    )
    return pool, scheduler


def _read_configs(spec: UnitSpec) -> tuple[dict[str, DecoderConfig], list[str]]:
    configs, problems = {}, []
    for llm in spec.llms:
        try:
            configs[llm.name] = load_config(llm.source)
            if spec.tensor_parallel > 1:
                check_tensor_parallel(llm.source, spec.tensor_parallel)
        except ModelError as error:
            problems.append(f"llms.{llm.name}.source: {error}")
            continue
        own = configs[llm.name].max_context
        if llm.max_context is not None and llm.max_context > own:
            problems.append(f"llms.{llm.name}.max_context: {llm.max_context} is more than the model's own {own}")
    return configs, problems


def _fill_pool(pool: Pool, spec: UnitSpec, configs: dict[str, DecoderConfig], contexts: dict[str, int]) -> list[str]:
    """Add the LLMs to the pool; returns what does not fit."""
    problems = []
    for llm in spec.llms:
        config = configs[llm.name]
        try:
            kv_heads = kv_heads_per_device(config, spec.tensor_parallel)
            pool.add_llm(llm.name, config.num_layers, kv_heads, config.head_dim)
        except ValueError as error:
            problems.append(f"llms.{llm.name}: {error}")
            continue
        pages = -(-contexts[llm.name] // pool.page_tokens(llm.name))
        blocks = pages * pool.blocks_per_page(llm.name)
        if blocks > pool.capacity:
            problems.append(
                f"llms.{llm.name}: one sequence of {contexts[llm.name]} tokens takes {blocks} head blocks, the pool "
                f"has {pool.capacity}: enlarge the pool or lower max_context"
            )
    return problems


def _max_context(spec: LLMSpec, config: DecoderConfig) -> int:
    return config.max_context if spec.max_context is None else spec.max_context


def share_of(spec: LLMSpec, config: DecoderConfig, max_context: int, scheduling: SchedulingSpec) -> LLMShare:
    """What the scheduler needs to know of an LLM."""
    slo = spec.slo if scheduling.chunks == "slo" and spec.slo is not None else SLO()
    return LLMShare(
        rate=spec.rate,
        max_context=max_context,
        max_sequences=spec.max_sequences,
        max_waiting=spec.max_waiting,
        length_switch=config.length_switch,
        ttft=slo.ttft,
        tpot=slo.tpot,
    )

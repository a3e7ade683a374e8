"""What `--check` shows: who gets how much of what, before any weight is loaded."""

from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from muxjax.config import Config
from muxjax.config.schema import ServerConfig
from muxjax.serving.executor.kernels import kernel_choices
from muxjax.serving.memory import device_bytes
from muxjax.serving.plan import UnitPlan

Devices = tuple[jax.Device, ...]


def print_plans(plans: Sequence[tuple[UnitPlan, Devices]], config: Config, console: Console) -> None:
    """Every unit's plan, under a line with its devices if there are several units."""
    for index, (plan, devices) in enumerate(plans):
        if len(plans) > 1:
            console.print(f"unit {index}, on {', '.join(map(str, devices))}:", highlight=False)
        print_plan(plan, devices, config, console)
        if index + 1 < len(plans):
            console.print()


def print_plan(plan: UnitPlan, devices: Devices, config: Config, console: Console) -> None:
    """The memory table of each device (quotas in head blocks, and in tokens), and what the devices decided."""
    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("source", overflow="fold")
    for title in ("rate/s", "weights", "type", "context", "KV/token", "quota", "tokens"):
        table.add_column(title, justify="right", no_wrap=True)
    for llm in plan.llms:
        table.add_row(
            llm.name,
            llm.spec.source,
            f"{llm.spec.rate:g}",
            shown_bytes(llm.weight_bytes),
            llm.spec.quantization or llm.spec.dtype,
            f"{llm.max_context:,}",
            shown_bytes(llm.page_blocks * plan.block_bytes / llm.page_tokens),
            f"{llm.quota:,} ({llm.quota / (plan.pool.num_blocks - 1):.0%})",
            f"{llm.quota_tokens:,}",
        )
    console.print(table)
    console.print()
    for line in (*_memory(plan, devices), *_devices(plan, devices), *_choices(plan, config)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _memory(plan: UnitPlan, devices: Devices) -> list[str]:
    weights = sum(llm.weight_bytes for llm in plan.llms)
    needed, there = weights + plan.pool_bytes, min(map(device_bytes, devices))
    whose = "the device's" if len(devices) == 1 else "each device's"
    return [
        f"pool       {plan.pool.num_blocks:,} head blocks of {shown_bytes(plan.block_bytes)} = "
        f"{shown_bytes(plan.pool_bytes)} ({plan.pool.block_tokens} tokens x {plan.pool.lane} {plan.pool.dtype})",
        f"memory     {shown_bytes(weights)} weights + {shown_bytes(plan.pool_bytes)} pool = {shown_bytes(needed)} "
        f"of {whose} {shown_bytes(there)}, beside activations and programs",
    ]


def _devices(plan: UnitPlan, devices: Devices) -> list[str]:
    kind = f"{devices[0].device_kind} ({devices[0].platform})"
    if len(devices) == 1:
        return [f"device     {kind}"]
    repeated = [
        f"           {llm.name} has fewer KV heads than there are devices: each of its {llm.config.num_kv_heads} is on "
        f"{len(devices) // llm.config.num_kv_heads} of them"
        for llm in plan.llms
        if llm.config.num_kv_heads < len(devices)
    ]
    return [
        f"devices    {len(devices)} x {kind}; every model is spread over all, sizes above are each one's",
        *repeated,
    ]


def _choices(plan: UnitPlan, config: Config) -> list[str]:
    scheduling = plan.scheduling
    return [
        *(f"attention  {line}" for line in attention_lines(plan)),
        f"scheduler  {scheduling.policy}, prefill chunks of up to {scheduling.max_prefill_tokens} tokens, "
        f"quotas adapted every {scheduling.quota_period:g} s",
        f"compiled   programs are kept in {config.compile.cache}"
        if config.compile.cache
        else "compiled   nothing is kept",
        f"server     {_listens(config.server)}",
        f"security   {_security(config.server)}",
    ]


def attention_lines(plan: UnitPlan, device: Any = None) -> list[str]:
    """What attention runs on: a line for each kind of implementation, with the LLMs and operations that get it."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for llm in plan.llms:
        choices = kernel_choices(llm, plan.pool, device)
        for choice in dict.fromkeys(choices.values()):
            operations = [operation for operation, other in choices.items() if other == choice]
            what = "" if len(operations) == len(choices) else f" for {', '.join(operations)}"
            kinds.setdefault((choice.name + what, choice.reason), []).append(llm.name)
    return [
        f"{kind}: {reason}" + ("" if len(llms) == len(plan.llms) else f" (of {', '.join(llms)})")
        for (kind, reason), llms in kinds.items()
    ]


def shown_bytes(size: float) -> str:
    """A size in the largest unit in which it is at least one."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if size == round(size) else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _listens(server: ServerConfig) -> str:
    http = "" if server.http_port is None else f", HTTP on {server.host}:{server.http_port}"
    return f"gRPC on {server.host}:{server.port}{http}"


def _security(server: ServerConfig) -> str:
    keys = "no API keys are asked for" if server.api_keys is None else f"API keys of {server.api_keys}"
    if server.tls is None:
        return f"{keys}, not encrypted"
    return f"{keys}, TLS" + (", clients' certificates are asked for" if server.tls.client_ca else "")

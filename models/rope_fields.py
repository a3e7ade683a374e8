"""RoPE in config.json: `rope_theta` beside `rope_scaling`, or everything in `rope_parameters` (transformers 5)."""

import math
from typing import Any

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import ConfigError
from muxjax.models.rope import RopeConfig
from muxjax.models.rope_scaling import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RopeScaling,
    YarnScaling,
)

KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope", "su")  # su: LongRoPE's first name


def read_rope(fields: ConfigFields, head_dim: int, *, default_theta: float = 10_000.0) -> RopeConfig:
    """The rotation that a config.json describes."""
    theta = fields.number("rope_theta", default_theta)
    parameters = fields.section("rope_parameters") or fields.section("rope_scaling")
    if parameters is None:
        return RopeConfig(theta, rotary_dim=_rotary_dim(fields, fields, head_dim))
    return read_rope_parameters(parameters, fields, head_dim, default_theta=theta)


def read_rope_parameters(
    parameters: ConfigFields, fields: ConfigFields, head_dim: int, *, default_theta: float
) -> RopeConfig:
    """The rotation that one object of RoPE's parameters describes; `fields` are the model's."""
    return RopeConfig(
        parameters.number("rope_theta", default_theta),
        _read_scaling(parameters, fields),
        _rotary_dim(parameters, fields, head_dim),
    )


def read_full_rope(fields: ConfigFields, head_dim: int, *, default_theta: float) -> RopeConfig:
    """The rotation of layers that see everything, where those with a window may have another."""
    parameters = _parameters_of(fields, "full_attention")
    if parameters is None:
        return read_rope(fields, head_dim, default_theta=default_theta)
    theta = fields.number("rope_theta", default_theta)
    return read_rope_parameters(parameters, fields, head_dim, default_theta=theta)


def read_sliding_rope(fields: ConfigFields, head_dim: int, *, default_theta: float) -> RopeConfig:
    """The rotation of layers with a window, which is not scaled unless rope_parameters says so."""
    parameters = _parameters_of(fields, "sliding_attention")
    if parameters is None:
        return RopeConfig(default_theta)
    return read_rope_parameters(parameters, fields, head_dim, default_theta=default_theta)


def _parameters_of(fields: ConfigFields, kind: str) -> ConfigFields | None:
    by_kind = fields.section("rope_parameters")
    return by_kind and by_kind.section(kind)


def stretched_context(fields: ConfigFields, rope: RopeConfig | None) -> int:
    """The most tokens of a sequence: max_position_embeddings, stretched by a RoPE whose scaling comes on top of it."""
    context = fields.integer("max_position_embeddings")
    match rope and rope.scaling:
        case LinearScaling(factor) | DynamicScaling(factor):
            return int(context * factor)
        case YarnScaling(factor, original_context):
            return max(context, int(original_context * factor))
    return context


def original_context(max_context: int, rope: RopeConfig | None) -> int:
    """The max_position_embeddings that stretched_context turns back into `max_context`."""
    match rope and rope.scaling:
        case LinearScaling(factor):
            return round(max_context / factor)
        case DynamicScaling(_, original):
            return original
    return max_context


def write_rope(rope: RopeConfig, head_dim: int) -> dict[str, Any]:
    """The rope_parameters that read_rope turns back into `rope`."""
    fields: dict[str, Any] = {"rope_theta": rope.theta, "rope_type": "default"}
    if rope.rotary_dim is not None:
        fields["partial_rotary_factor"] = rope.rotary_dim / head_dim
    return fields | _write_scaling(rope.scaling)


def write_ropes(config: DecoderConfig) -> dict[str, Any]:
    """The rope_parameters of a model whose layers with a window have a rotation of their own."""
    if config.rope is None or config.sliding_rope is None:
        raise ConfigError("this family has a rotary embedding for either kind of layer")
    kinds = {"full_attention": config.rope, "sliding_attention": config.sliding_rope}
    return {kind: write_rope(rope, config.head_dim) for kind, rope in kinds.items()}


def _rotary_dim(parameters: ConfigFields, fields: ConfigFields, head_dim: int) -> int | None:
    factor = parameters.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0))
    return None if factor == 1 else int(head_dim * factor)


def _read_scaling(parameters: ConfigFields, fields: ConfigFields) -> RopeScaling | None:
    kind = parameters.only("rope_type" if "rope_type" in parameters else "type", KINDS, default="default")
    context = fields.integer("max_position_embeddings")
    original = fields.integer(
        "original_max_position_embeddings", parameters.integer("original_max_position_embeddings", context)
    )
    match kind:
        case "linear":
            return LinearScaling(parameters.number("factor"))
        case "dynamic":
            return DynamicScaling(parameters.number("factor"), context)
        case "llama3":
            return Llama3Scaling(
                factor=parameters.number("factor"),
                low_freq_factor=parameters.number("low_freq_factor"),
                high_freq_factor=parameters.number("high_freq_factor"),
                original_context=original,
            )
        case "yarn":
            return _read_yarn(parameters, context, original)
        case "longrope" | "su":
            factor = parameters.number("factor", context / original)
            return LongRopeScaling(
                short_factors=parameters.numbers("short_factor"),
                long_factors=parameters.numbers("long_factor"),
                original_context=original,
                magnitude_factor=parameters.number("attention_factor", _longrope_magnitude(factor, original)),
            )
    return None


def _read_yarn(parameters: ConfigFields, context: int, original: int) -> YarnScaling:
    factor = parameters.number("factor", context / original)
    magnitude = _yarn_magnitude(factor)
    if "mscale" in parameters and "mscale_all_dim" in parameters:
        magnitude = _yarn_magnitude(factor, parameters.number("mscale"))
        magnitude /= _yarn_magnitude(factor, parameters.number("mscale_all_dim"))
    return YarnScaling(
        factor=factor,
        original_context=original,
        magnitude_factor=parameters.number("attention_factor", magnitude),
        beta_fast=parameters.number("beta_fast", 32.0),
        beta_slow=parameters.number("beta_slow", 1.0),
        truncate=parameters.flag("truncate", True),
    )


def _yarn_magnitude(factor: float, weight: float = 1.0) -> float:
    """YaRN's recommended magnitude, with the weight that some models give to the logarithm."""
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0


def _longrope_magnitude(factor: float, original_context: int) -> float:
    """How much larger scores must be for a context `factor` times longer (Ding et al. 2024)."""
    if factor <= 1:
        return 1.0
    if original_context < 2:
        raise ConfigError(f"original_max_position_embeddings must be at least 2, not {original_context}")
    return math.sqrt(1 + math.log(factor) / math.log(original_context))


def _write_scaling(scaling: RopeScaling | None) -> dict[str, Any]:
    match scaling:
        case None:
            return {}
        case LinearScaling(factor):
            return {"rope_type": "linear", "factor": factor}
        case DynamicScaling(factor):
            return {"rope_type": "dynamic", "factor": factor}
        case Llama3Scaling():
            return {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_context,
            }
        case YarnScaling():
            return {
                "rope_type": "yarn",
                "factor": scaling.factor,
                "original_max_position_embeddings": scaling.original_context,
                "beta_fast": scaling.beta_fast,
                "beta_slow": scaling.beta_slow,
                "truncate": scaling.truncate,
                "attention_factor": scaling.magnitude_factor,
            }
        case LongRopeScaling():
            return {
                "rope_type": "longrope",
                "short_factor": list(scaling.short_factors),
                "long_factor": list(scaling.long_factors),
                "original_max_position_embeddings": scaling.original_context,
                "attention_factor": scaling.magnitude_factor,
            }
    raise ConfigError(f"config.json has no words for {type(scaling).__name__}")

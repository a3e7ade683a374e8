"""What the admin service needs to know of the configuration."""

from collections.abc import Mapping

from muxjax.config import ConfigurationError, config_of
from muxjax.config.unit import unit_spec
from muxjax.serving.management import ManagementError
from muxjax.serving.plan import PlanError
from muxjax.serving.spec import LLMSpec


def llm_spec(name: str, fields: Mapping[str, object]) -> LLMSpec:
    """An LLM as it would stand under `llms` in the configuration. Raises ManagementError with all that is wrong."""
    try:
        return unit_spec(config_of({"llms": {name: dict(fields)}}).config).llms[0]
    except (ConfigurationError, PlanError) as error:
        raise ManagementError(str(error)) from error

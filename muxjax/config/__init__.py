"""The one configuration that the commands share: a YAML file, checked as a whole before anything runs."""

from muxjax.config.load import LoadedConfig, config_of, load_config
from muxjax.config.problems import ConfigurationError
from muxjax.config.schema import Config

__all__ = ["Config", "ConfigurationError", "LoadedConfig", "config_of", "load_config"]

"""What can be wrong with a model that a person names."""


class ModelError(Exception):
    """A model cannot be used; the message says what is wrong, in which file or field, and what to do."""


class ConfigError(ModelError):
    """A model's configuration is missing, malformed, or asks for what muxjax does not have."""


class CheckpointError(ModelError):
    """A model's weights are missing, damaged, or do not fit its configuration."""

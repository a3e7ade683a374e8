"""The text part of a model that also sees: what else it is made of is left out."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import ConfigError
from muxjax.models.family_fields import refuse_quantization
from muxjax.models.llama import Llama


class TextPart(Llama):
    """Beside a family of Llama's kind: that family, its configuration and its tensors being a part of a whole.

    Attributes:
        whole_model_type: config.json's name of the whole.
    """

    whole_model_type: ClassVar[str]
    prefix = "language_model.model."
    head = "language_model.lm_head.weight"

    def read_config(self, fields: ConfigFields) -> DecoderConfig:
        refuse_quantization(fields)
        text = fields.section("text_config")
        if text is None:
            raise ConfigError("text_config is missing")
        if "tie_word_embeddings" in fields:  # counts, and not the part's
            text = text.replaced(tie_word_embeddings=fields.flag("tie_word_embeddings", True))
        return super().read_config(text)

    def write_config(self, config: DecoderConfig) -> dict[str, Any]:
        text = super().write_config(config)
        return {
            "model_type": self.whole_model_type,
            "tie_word_embeddings": config.tie_embeddings,
            "text_config": text,
        }

    def canonical_name(self, tensor: str) -> str:
        # transformers 5 may call them as its modules.
        if tensor == "lm_head.weight":
            return self.head
        within = tensor.removeprefix("model.")
        return tensor if within == tensor else within.replace("language_model.", self.prefix, 1)

    def ignores(self, tensor: str, config: DecoderConfig) -> bool:
        return tensor.startswith(("vision_tower.", "multi_modal_projector.")) or super().ignores(tensor, config)

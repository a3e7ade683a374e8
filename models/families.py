"""The architectures that muxjax brings; importing this registers them."""

import muxjax.models.gemma
import muxjax.models.gpt2
import muxjax.models.llama
import muxjax.models.mistral
import muxjax.models.olmo
import muxjax.models.phi
import muxjax.models.qwen  # noqa: F401

"""The architectures that muxjax brings; importing this registers them."""

import muxjax.models.gemma
import muxjax.models.gpt2
import muxjax.models.gpt_neox
import muxjax.models.granite
import muxjax.models.llama
import muxjax.models.mistral
import muxjax.models.olmo
import muxjax.models.opt
import muxjax.models.phi
import muxjax.models.qwen
import muxjax.models.smollm
import muxjax.models.starcoder  # noqa: F401

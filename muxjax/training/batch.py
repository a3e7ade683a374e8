"""What one optimizer step learns from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of tokens; position t predicts `tokens[:, t + 1]`, which counts where `scored[:, t]`."""

    tokens: Int32[np.ndarray, "rows context_plus_1"]
    scored: Bool[np.ndarray, "rows context"]

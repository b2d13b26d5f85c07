"""Quantus: https://github.com/understandable-machine-intelligence-lab/Quantus."""

from typing import Any

import numpy as np

from gradtoken.adapters.plain import Array, Logits, saliency


def explain_func(model: Any, inputs: Array, targets: Any, **options: Any) -> Array:
    """What Quantus calls `explain_func`: `explain_func_kwargs={"method": "legrad"}` chooses the method and its options.

    Returns (B, 1, H, W) for pictures and (B, N) for tokens, raw and signed; Quantus takes absolute values and scales
    where its metric is told to. A network that returns an object with logits is given to Quantus as `Logits(net)`.
    """
    classes = None if targets is None else np.asarray(targets).reshape(-1)
    found = saliency(model, np.asarray(inputs), classes, **options)
    return found[:, None] if found.ndim == 3 else found


__all__ = ["Logits", "explain_func"]

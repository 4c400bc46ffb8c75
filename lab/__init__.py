"""The ablation lab: autoregressive and masked-diffusion language models as two corners of one cube."""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Keras reads this once, at its import. JAX is the lab's default; the environment overrides it. Where the
# variable is empty, Keras would take what ~/.keras/keras.json says.
os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or "jax"

if TYPE_CHECKING:
    from lab.api import Places, Resources, load_model, load_results, report, run_ablation

__all__ = ["Places", "Resources", "load_model", "load_results", "report", "run_ablation"]


def __getattr__(name: str) -> Any:
    """What the lab offers to Python, imported when it is first asked for, so that `import lab` is fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("lab.api"), name)

"""The ablation lab: autoregressive and masked-diffusion language models as two corners of one cube."""

import os

# Keras reads this once, at its import. JAX is the lab's default; the environment overrides it.
os.environ.setdefault("KERAS_BACKEND", "jax")

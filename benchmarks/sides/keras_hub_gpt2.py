"""A GPT-2 of KerasHub under Keras's own `fit`, the way its guides show: what one has without the lab.

Another architecture: biases, LayerNorm, GELU, and a hidden width that gives as many weights.
"""

from collections.abc import Iterator
from typing import Any

import keras
import keras_hub
import numpy as np

from benchmarks.sides.case import (
    BETAS,
    CLIP_NORM,
    EPSILON,
    LEARNING_RATE,
    WEIGHT_DECAY,
    Case,
    Updates,
    windows,
)


def make(case: Case) -> Updates:
    """Build the model; it is autoregressive."""
    if case.dtype == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=case.vocab_size,
        num_layers=case.layers,
        num_heads=case.heads,
        hidden_dim=case.width,
        intermediate_dim=case.ffn_width * 3 // 2,
        dropout=0.0,
        max_sequence_length=case.length,
    )
    logits = backbone.token_embedding(backbone.output, reverse=True)
    model = keras.Model(backbone.input, keras.layers.Activation("linear", dtype="float32")(logits))
    model.compile(
        optimizer=keras.optimizers.AdamW(
            LEARNING_RATE, WEIGHT_DECAY, *BETAS, epsilon=EPSILON, global_clipnorm=CLIP_NORM
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    text = windows(case)
    read = {"token_ids": np.roll(text, 1, axis=1), "padding_mask": np.ones_like(text)}

    def batches(count: int) -> Iterator[Any]:
        for number in range(count):
            rows = np.arange(number * case.batch, (number + 1) * case.batch) % len(text)
            yield {name: values[rows] for name, values in read.items()}, text[rows]

    def updates(count: int) -> None:
        model.fit(batches(count), steps_per_epoch=count, verbose=0)

    return updates

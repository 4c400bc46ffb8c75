"""Multi-head self-attention with rotary positions and normalised queries and keys."""

from typing import Any

import keras
import numpy as np
from keras import ops

from lab.models.architecture import Architecture
from lab.models.dropout import Dropout
from lab.models.from_architecture import FromArchitecture
from lab.models.layout import split_axis
from lab.models.norm import RMSNorm
from lab.models.projection import Projection
from lab.models.rotary import rotate
from lab.models.seeds import derive_seed

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class SelfAttention(FromArchitecture, keras.layers.Layer):
    """Multi-head self-attention: RoPE, grouped queries, RMS-normalised queries and keys, no biases.

    Args:
        architecture: of the model.
        dropout: chance that an attention weight is dropped in training.
        seed: seed of the initial weights and of dropout.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """

    PLAIN = ("dropout", "seed")

    def __init__(
        self, architecture: Architecture, dropout: float = 0.0, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.architecture = architecture
        self.dropout = dropout
        self.seed = seed
        policy = self.dtype_policy
        self.query_key_value = Projection(
            (architecture.heads + 2 * architecture.kv_heads) * architecture.head_dim,
            seed=derive_seed(seed, "in"),
            dtype=policy,
            name="query_key_value",
        )
        self.output_projection = Projection(
            architecture.width,
            architecture.output_scale,
            derive_seed(seed, "out"),
            dtype=policy,
            name="output",
        )
        self.query_key_norms = [
            RMSNorm(architecture.norm_gain, architecture.norm_epsilon, dtype=policy, name=name)
            for name in ("query_norm", "key_norm")
            if architecture.qk_norm
        ]
        self.weight_dropout = (
            Dropout(dropout, derive_seed(seed, "dropout"), dtype=policy, name="weight_dropout")
            if dropout
            else None
        )

    def build(
        self, inputs_shape: tuple[int | None, ...], cosine_shape: Any = None, sine_shape: Any = None
    ) -> None:
        """Build the parts for inputs of shape (batch, length, width)."""
        heads, head_dim = self.architecture.heads, self.architecture.head_dim
        self.query_key_value.build(inputs_shape)
        self.output_projection.build((*inputs_shape[:-1], heads * head_dim))
        for norm in self.query_key_norms:
            norm.build((*inputs_shape[:-1], heads, head_dim))
        if self.weight_dropout:
            self.weight_dropout.build()

    def call(
        self,
        inputs: Tensor,
        cosine: Tensor,
        sine: Tensor,
        visible: Tensor | None = None,
        causal: bool = False,
        training: bool = False,
        block_size: int = 0,
    ) -> Tensor:
        """Attend.

        Args:
            inputs: (batch, length, width).
            cosine: (1 or batch, length, 1, head_dim / 2), cosines of the rotary angles of each slot.
            sine: the same of the sines.
            visible: (batch, length) bool, False where a slot is hidden from all slots but itself; or None.
            causal: whether slot i sees only slots 0 .. i.
            training: whether to drop attention weights.
            block_size: B, where the slots are clean ones and noisy ones in blocks of B (`block_pattern`); 0
                elsewhere.

        Returns:
            (batch, length, width).
        """
        length, head_dim = inputs.shape[1], self.architecture.head_dim
        heads = (self.architecture.heads, self.architecture.kv_heads, self.architecture.kv_heads)
        parts = self.query_key_value(inputs, parts=[number * head_dim for number in heads])
        query, key, value = (
            split_axis(ops.reshape(part, (-1, length, number, head_dim)), 2)
            for part, number in zip(parts, heads, strict=True)
        )
        if self.query_key_norms:
            query, key = (norm(part) for norm, part in zip(self.query_key_norms, (query, key), strict=True))
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        if (group := self.architecture.heads // self.architecture.kv_heads) > 1:
            # Written out, as the fused attention of `keras.ops` shares heads under JAX alone.
            key, value = ops.repeat(key, group, axis=2), ops.repeat(value, group, axis=2)
        dropout = self.weight_dropout if training else None
        if dropout is None and has_fused_attention():
            attended = _fused(query, key, value, visible, causal, block_size)
        else:
            attended = _written_out(query, key, value, _mask(length, visible, causal, block_size), dropout)
        return self.output_projection(ops.reshape(attended, (-1, length, heads[0] * head_dim)))


def has_fused_attention() -> bool:
    """Whether the attention of `keras.ops` is one kernel here: under PyTorch, and on an accelerator."""
    return keras.backend.backend() == "torch" or not _device().startswith("cpu")


def needs_flash_attention(dtype: str) -> bool:
    """Whether it must be cuDNN's here: under JAX, on an NVIDIA GPU, in half precision."""
    half = dtype in ("bfloat16", "float16")
    return half and keras.backend.backend() == "jax" and _device().startswith("gpu")


def _device() -> str:
    return str(keras.distribution.list_devices()[0])


def block_pattern(slots: int, block_size: int) -> np.ndarray:
    """Which slots each slot sees, of a clean stream and a noisy one behind it, in blocks of B tokens.

    A clean slot sees the clean slots up to the end of its own block; a noisy one sees the clean slots of the
    blocks before its own, and its own noisy block.

    Args:
        slots: 2 L, L of each stream.
        block_size: B, which divides L.

    Returns:
        (2 L, 2 L) bool.

    Reference: Arriola et al. 2025, arXiv:2503.09573, section 3.

    Example: two tokens a block, and two blocks.
        >>> print(block_pattern(8, 2).astype(int))
        [[1 1 0 0 0 0 0 0]
         [1 1 0 0 0 0 0 0]
         [1 1 1 1 0 0 0 0]
         [1 1 1 1 0 0 0 0]
         [0 0 0 0 1 1 0 0]
         [0 0 0 0 1 1 0 0]
         [1 1 0 0 0 0 1 1]
         [1 1 0 0 0 0 1 1]]
    """
    block = np.arange(slots // 2) // block_size
    before, same = block[:, None] > block, block[:, None] == block
    return np.block([[before | same, np.zeros_like(same)], [before, same]])


def _fused(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, causal: bool, block_size: int = 0
) -> Tensor:
    """By the attention of `keras.ops`.

    Raises:
        RuntimeError: if cuDNN's is needed and cannot be used; the slower one would pass unnoticed.
    """
    if visible is not None or block_size:
        mask = _mask(query.shape[1], visible, causal, block_size)
        return ops.dot_product_attention(query, key, value, mask=mask)
    flash = needs_flash_attention(keras.backend.standardize_dtype(query.dtype)) or None
    return ops.dot_product_attention(query, key, value, is_causal=causal, flash_attention=flash)


def _written_out(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: Dropout | None
) -> Tensor:
    """By matrix products of each head: XLA's CPU backend has no fused attention, nor has any dropout."""
    query, key, value = (ops.transpose(part, (0, 2, 1, 3)) for part in (query, key, value))
    weights = _attention_weights(query, key, mask)
    if dropout is not None:
        weights = dropout(weights, training=True)
    return ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))


def _attention_weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Of each slot on each: (batch, heads, length, length), softmax of the scaled scores in float32."""
    scores = ops.cast(ops.einsum("bhqc,bhkc->bhqk", query, key), "float32")
    scores *= np.float32(query.shape[3] ** -0.5)
    if mask is not None:
        scores = ops.where(mask, scores, np.float32(-1e30))
    return ops.cast(ops.softmax(scores), query.dtype)


def _mask(length: int, visible: Tensor | None, causal: bool, block_size: int = 0) -> Tensor | None:
    """Which slots each slot sees, (1 or batch, 1, length, length) bool; None if all see all.

    Raises:
        ValueError: if slots are to be hidden from the attention of a stream in blocks.
    """
    if block_size:
        if visible is not None:
            raise ValueError(f"`visible` must be None with block_size={block_size}, but got an array.")
        return block_pattern(length, block_size)[None, None]
    earlier = np.tri(length, dtype=bool)[None, None]
    if visible is None:
        return earlier if causal else None
    itself = np.eye(length, dtype=bool)[None, None]
    seen = ops.logical_or(ops.expand_dims(visible, (1, 2)), itself)
    return ops.logical_and(seen, earlier) if causal else seen

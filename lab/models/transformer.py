"""The Transformer that every arm trains: the same weights serve causal and dense passes."""

from typing import Any

import keras
import numpy as np
from keras import ops

import lab.models.keras_settings  # noqa: F401  # before any variable is made
from lab.models.block import Block
from lab.models.rotary import rotary_angles
from lab.models.seeds import derive_seed

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class Transformer(keras.Model):
    """Pre-norm Transformer: RMSNorm, RoPE, SwiGLU, qk-norm, no biases, a target-position embedding.

    Each slot of its input holds a token, that token's own position (through RoPE), and the position that the
    slot predicts (an added embedding). A causal pass over a stream in identity order is the usual decoder;
    over a permuted stream, any-order autoregression; a dense pass whose slots predict themselves, the
    denoiser.

    Args:
        vocab_size: tokens that can be predicted. The id `vocab_size` is the mask, which also starts a causal
            stream; it is an input only.
        length: L, the longest sequence. Positions are 1 .. L; 0 is the start slot's.
        layers: number of blocks.
        width: width of the residual stream.
        heads: attention heads a block.
        ffn_width: hidden width of the feed-forward layers.
        tie_embeddings: whether the output projection is the token embedding.
        attention_dropout: dropout of attention weights.
        mlp_dropout: dropout inside the feed-forward layers.
        loops: how often the block stack is applied, with the same weights: compute without parameters.
        seed: seed of the initial weights and of dropout.
    """

    def __init__(
        self,
        vocab_size: int,
        length: int,
        layers: int,
        width: int,
        heads: int,
        ffn_width: int,
        tie_embeddings: bool = True,
        attention_dropout: float = 0.0,
        mlp_dropout: float = 0.0,
        loops: int = 1,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.length = length
        self.num_layers = layers  # `layers` is taken by Keras
        self.width = width
        self.heads = heads
        self.ffn_width = ffn_width
        self.tie_embeddings = tie_embeddings
        self.attention_dropout = attention_dropout
        self.mlp_dropout = mlp_dropout
        self.loops = loops
        self.seed = seed

        policy = self.dtype_policy
        self.token_embedding = keras.layers.ReversibleEmbedding(
            vocab_size + 1,
            width,
            tie_weights=tie_embeddings,
            embeddings_initializer=keras.initializers.RandomNormal(
                stddev=0.02, seed=derive_seed(seed, "token")
            ),
            dtype=policy,
            name="token_embedding",
        )
        self.target_embedding = keras.layers.Embedding(
            length,
            width,
            embeddings_initializer=keras.initializers.RandomNormal(
                stddev=0.02, seed=derive_seed(seed, "target")
            ),
            dtype=policy,
            name="target_embedding",
        )
        self.blocks = [
            Block(
                heads,
                ffn_width,
                attention_dropout,
                mlp_dropout,
                0.02
                / (2 * layers)
                ** 0.5,  # keeps the residual stream's variance (Radford et al. 2019, section 2.3)
                derive_seed(seed, f"block_{index}"),
                dtype=policy,
                name=f"block_{index}",
            )
            for index in range(layers)
        ]
        angles = rotary_angles(length, width // heads)
        self._cosines, self._sines = np.cos(angles), np.sin(angles)

    @property
    def mask_id(self) -> int:
        """The id of the mask, which no data holds."""
        return self.vocab_size

    def build(self, input_shape: Any = None) -> None:
        """Make every weight; the shapes follow from the constructor's arguments alone."""
        shape = (None, self.length, self.width)
        self.token_embedding.build((None, self.length))
        self.target_embedding.build((None, self.length))
        for block in self.blocks:
            block.build(shape)
        self.built = True

    def features(
        self,
        tokens: Tensor,
        positions: Tensor,
        target_positions: Tensor,
        causal: bool,
        visible: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """The normalised residual stream after the last block.

        Args:
            tokens: (batch, slots) int32 in [0, vocab_size]; `mask_id` is the mask.
            positions: (1 or batch, slots) int32 in [0, L], each token's own position; 0 for the start slot.
            target_positions: (1 or batch, slots) int32 in [1, L], the position each slot predicts.
            causal: whether slot i sees only slots 0 .. i.
            visible: (batch, slots) bool, False where a slot is hidden from all slots but itself; or None.
            training: whether dropout acts.

        Returns:
            (batch, slots, width).
        """
        stream = self.token_embedding(tokens) + self.target_embedding(target_positions - 1)
        cosine, sine = (
            ops.cast(ops.expand_dims(ops.take(table, positions, axis=0), 2), self.compute_dtype)
            for table in (self._cosines, self._sines)
        )
        for block in self.blocks * self.loops:
            stream = block(stream, cosine, sine, visible, causal=causal, training=training)
        return ops.rms_normalization(stream)

    def logits(self, features: Tensor) -> Tensor:
        """Map features (..., width) to float32 logits (..., vocab_size); the mask is never predicted."""
        return ops.cast(self.token_embedding(features, reverse=True)[..., : self.vocab_size], "float32")

    def call(self, inputs: dict[str, Tensor], causal: bool = False, training: bool = False) -> Tensor:
        """Logits of every slot: `inputs` holds the arrays of `features` by name, `visible` only if given."""
        features = self.features(
            inputs["tokens"],
            inputs["positions"],
            inputs["target_positions"],
            causal=causal,
            visible=inputs.get("visible"),
            training=training,
        )
        return self.logits(features)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "length": self.length,
            "layers": self.num_layers,
            "width": self.width,
            "heads": self.heads,
            "ffn_width": self.ffn_width,
            "tie_embeddings": self.tie_embeddings,
            "attention_dropout": self.attention_dropout,
            "mlp_dropout": self.mlp_dropout,
            "loops": self.loops,
            "seed": self.seed,
        }

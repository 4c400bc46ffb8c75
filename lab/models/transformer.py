"""The Transformer that every arm trains: the same weights serve causal and dense passes."""

from typing import Any

import keras
import numpy as np
from keras import ops

import lab.models.keras_settings  # noqa: F401  # before any variable is made
from lab.models.architecture import Architecture
from lab.models.block import Block
from lab.models.features import Features
from lab.models.from_architecture import FromArchitecture
from lab.models.norm import RMSNorm
from lab.models.rematerialisation import call_again
from lab.models.rotary import rotary_angles
from lab.models.seeds import derive_seed
from lab.models.token_embedding import TokenEmbedding

Tensor = Any
Example = Any  # of lab/objectives/corruption.py, from which nothing here imports


@keras.saving.register_keras_serializable(package="lab")
class Transformer(FromArchitecture, keras.Model):
    """Pre-norm Transformer: RMSNorm, RoPE, SwiGLU, qk-norm, no biases, a target-position embedding.

    Each slot of its input holds a token, that token's own position (through RoPE), and the position that the
    slot predicts (an added embedding). A causal pass over a stream in identity order is the usual decoder;
    over a permuted stream, any-order autoregression; a dense pass whose slots predict themselves, the
    denoiser.

    Args:
        architecture: what fixes its function and the shapes of its weights.
        attention_dropout: dropout of attention weights.
        mlp_dropout: dropout inside the feed-forward layers.
        seed: seed of the initial weights and of dropout.
        rematerialise: whether the backward pass computes each block again, and only their inputs are kept.
    """

    PLAIN = ("attention_dropout", "mlp_dropout", "seed", "rematerialise")

    def __init__(
        self,
        architecture: Architecture,
        attention_dropout: float = 0.0,
        mlp_dropout: float = 0.0,
        seed: int = 0,
        rematerialise: bool = False,
        **kwargs: Any,
    ) -> None:
        # Each part casts its weights itself; what `call_again` reads must be as it is stored.
        super().__init__(autocast=not rematerialise, **kwargs)
        self.architecture = architecture
        self.attention_dropout = attention_dropout
        self.mlp_dropout = mlp_dropout
        self.seed = seed
        self.rematerialise = rematerialise

        policy = self.dtype_policy
        self.token_embedding = TokenEmbedding(
            architecture.embedding_rows,
            architecture.width,
            architecture.vocab_size,
            tie_weights=architecture.tie_embeddings,
            embeddings_initializer=keras.initializers.RandomNormal(
                stddev=0.02, seed=derive_seed(seed, "token")
            ),
            output_initializer=keras.initializers.RandomNormal(stddev=0.02, seed=derive_seed(seed, "output")),
            dtype=policy,
            name="token_embedding",
        )
        self.target_embedding = None
        if architecture.target_embedding:
            self.target_embedding = keras.layers.Embedding(
                architecture.length,
                architecture.width,
                embeddings_initializer=keras.initializers.RandomNormal(
                    stddev=0.02, seed=derive_seed(seed, "target")
                ),
                dtype=policy,
                name="target_embedding",
            )
        self.blocks = [
            Block(
                architecture,
                attention_dropout,
                mlp_dropout,
                derive_seed(seed, f"block_{index}"),
                dtype=policy,
                name=f"block_{index}",
            )
            for index in range(architecture.layers)
        ]
        self.output_norm = RMSNorm(
            architecture.norm_gain, architecture.norm_epsilon, dtype=policy, name="output_norm"
        )
        angles = rotary_angles(architecture.length, architecture.head_dim, architecture.rope_base)
        self._cosines, self._sines = np.cos(angles), np.sin(angles)

    @property
    def vocab_size(self) -> int:
        """Tokens that can be predicted."""
        return self.architecture.vocab_size

    @property
    def length(self) -> int:
        """L, the longest sequence."""
        return self.architecture.length

    @property
    def mask_id(self) -> int:
        """The id of the mask, which no data holds."""
        return self.architecture.mask_id

    @property
    def start_id(self) -> int:
        """The id that starts a causal stream."""
        return self.architecture.start_id

    def build(self, input_shape: Any = None) -> None:
        """Make every weight; the shapes follow from the architecture alone."""
        slots = (None, self.length)
        self.token_embedding.build(slots)
        if self.target_embedding:
            self.target_embedding.build(slots)
        for block in self.blocks:
            block.build((*slots, self.architecture.width))
        self.output_norm.build((*slots, self.architecture.width))
        self.built = True

    def features(
        self, example: Example, causal: bool, training: bool = False, block_size: int = 0
    ) -> Features:
        """The normalised residual stream after the last block, and what its blocks say beside it.

        Args:
            example: what the model reads, an `lab.objectives.corruption.Example` of arrays of the backend;
                its targets and weights do not count.
            causal: whether slot i sees only slots 0 .. i.
            training: whether dropout acts.
            block_size: B, where the example's slots are doubled, clean ones before noisy ones, in blocks of B
                (`lab.models.attention.block_pattern`); 0 elsewhere.

        Returns:
            The stream (batch, slots, width), of doubled slots the noisy half; the sum of the auxiliary
            losses; the counts of each block, over all loops, by its name and theirs.
        """
        stream = self.token_embedding(example.tokens)
        if self.target_embedding:
            stream = stream + self.target_embedding(example.target_positions - 1)
        cosine, sine = (
            ops.cast(ops.expand_dims(ops.take(table, example.positions, axis=0), 2), self.compute_dtype)
            for table in (self._cosines, self._sines)
        )
        losses: list[Tensor] = []
        counts: dict[str, Tensor] = {}
        for block in self.blocks * self.architecture.loops:
            arguments = (cosine, sine, example.visible)
            options = {"causal": causal, "training": training, "block_size": block_size}
            if training and self.rematerialise:
                output = call_again(block, stream, *arguments, **options)
            else:
                output = block(stream, *arguments, **options)
            passed = Features.of(output)
            stream = passed.stream
            losses += [] if passed.auxiliary_loss is None else [passed.auxiliary_loss]
            for name, count in passed.counts.items():
                counts[f"{block.name}/{name}"] = counts.get(f"{block.name}/{name}", 0) + count
        if block_size:  # clean slots predict nothing
            stream = stream[:, stream.shape[1] // 2 :]
        return Features(self.output_norm(stream), sum(losses) if losses else None, counts)

    def logits(self, stream: Tensor) -> Tensor:
        """Map the normalised stream (..., width) to float32 logits (..., vocab_size).

        The mask is never predicted: it has no logit, or one without weight where it is in the vocabulary
        (Sahoo et al. 2024, arXiv:2406.07524, section 3.2.3).
        """
        rows = ops.reshape(stream, (-1, stream.shape[-1]))  # as in `Projection`
        logits = ops.cast(self.token_embedding(rows, reverse=True), "float32")
        logits = ops.reshape(logits, (*ops.shape(stream)[:-1], self.vocab_size))
        if self.mask_id < self.vocab_size:
            logits = ops.where(np.arange(self.vocab_size) == self.mask_id, np.float32(-1e30), logits)
        return logits

    def call(
        self, example: Example, causal: bool = False, training: bool = False, block_size: int = 0
    ) -> Tensor:
        """Logits of the stream of `features`, with the same arguments: (batch, slots, vocab_size) float32."""
        return self.logits(self.features(example, causal, training, block_size).stream)

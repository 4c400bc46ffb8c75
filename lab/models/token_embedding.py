"""Token embeddings that are also, transposed, the output projection."""

from typing import Any

import keras
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class TokenEmbedding(keras.layers.ReversibleEmbedding):
    """Embeds `input_dim` ids, of which the first `outputs` can be predicted.

    A mask beyond the vocabulary has an embedding and no logit. Its column is cut from the weights: to cut it
    from the logits, and to put their gradient together again, took 3 % of a step (docs/performance.md).

    Args:
        input_dim: ids.
        output_dim: width of an embedding.
        outputs: ids that can be predicted.
        output_initializer: of the output projection where it has weights of its own. Keras has only that of
            the embeddings, which with a seed would give both the same numbers.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        outputs: int,
        output_initializer: Any = "uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_dim, output_dim, **kwargs)
        self.outputs = outputs
        self.output_initializer = keras.initializers.get(output_initializer)

    def build(self, input_shape: Any = None) -> None:
        """Make the embeddings, and the output projection if it is untied."""
        keras.layers.Embedding.build(self, input_shape)
        if not self.tie_weights:
            self.reverse_embeddings = self.add_weight(
                shape=(self.output_dim, self.input_dim),
                initializer=self.output_initializer,
                name="reverse_embeddings",
            )

    def call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        """Map ids (...) to (..., output_dim), or in `reverse` features (rows, output_dim) to logits."""
        if not reverse:
            return super().call(inputs)
        if self.tie_weights:
            return ops.matmul(inputs, ops.transpose(self.embeddings[: self.outputs]))
        return ops.matmul(inputs, self.reverse_embeddings[:, : self.outputs])

    def compute_output_shape(self, input_shape: Any, reverse: bool = False) -> Any:
        """The shape of the embeddings, or of the logits."""
        return (*input_shape[:-1], self.outputs) if reverse else super().compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        initializer = keras.initializers.serialize(self.output_initializer)
        return {**super().get_config(), "outputs": self.outputs, "output_initializer": initializer}

"""An exported model in memory: what it predicts of tokens, and how likely it finds a text."""

from dataclasses import dataclass, field

import numpy as np

from lab.data.tokenizers import Tokenizer
from lab.evaluation.chain_rule import chain_rule_nll
from lab.evaluation.scorer import SlotScorer
from lab.models.transformer import Transformer
from lab.objectives.corruption import block_example, causal_example, dense_example
from lab.training.exchange.description import Description


@dataclass(frozen=True)
class Model:
    """A network with its weights, and what belongs to it.

    Attributes:
        description: what it says of itself.
        scorer: the network; whatever measures or samples an arm takes it.
        tokenizer: text to ids and back; None where the checkpoint brought none that can be read.
    """

    description: Description
    scorer: SlotScorer
    tokenizer: Tokenizer | None
    _shorter: dict[int, SlotScorer] = field(default_factory=dict, repr=False)

    @property
    def transformer(self) -> Transformer:
        """The network itself."""
        return self.scorer.transformer

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """What one pass predicts of each token.

        Args:
            tokens: (rows, n) int, n <= L. A causal model predicts each from those before it; a dense one from
                all that are not the mask's id, those of an arm of blocks up to the end of its own block.

        Returns:
            (rows, n, vocab) float32; each n is compiled once. A mask inside the vocabulary has -1e30: it is
            never predicted.

        Raises:
            ValueError: if there are too many tokens, or one is no id of the model.
        """
        tokens = np.asarray(tokens, np.int32)
        rows = self.description.architecture.embedding_rows
        if tokens.ndim != 2 or not 0 < tokens.shape[1] <= self.transformer.length:
            raise ValueError(
                f"`tokens` must be (rows, n) with n in 1 .. {self.transformer.length}, "
                f"but got {tokens.shape}."
            )
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < rows):
            raise ValueError(
                f"`tokens` must be in [0, {rows}), but got ids from {tokens.min()} to {tokens.max()}."
            )
        places, mask_id = np.arange(tokens.shape[1], dtype=np.int32), self.transformer.mask_id
        if self.scorer.causal:
            example = causal_example(tokens, np.broadcast_to(places, tokens.shape), mask_id, np)
        else:
            make = block_example if self.scorer.block_size else dense_example
            example = make(tokens, tokens == mask_id, mask_id, np.ones(len(tokens), np.float32), np)
        passes = self._scorer_of(tokens.shape[1]).logits(example, places, self.scorer.batch_size)
        return np.concatenate([logits for _, logits in passes]).astype(np.float32)

    def _scorer_of(self, slots: int) -> SlotScorer:
        """The scorer for so many slots, a program of its own: TensorFlow's for several knows none of them."""
        if slots == self.transformer.length:
            return self.scorer
        if slots not in self._shorter:
            plain = (self.scorer.causal, self.scorer.batch_size, self.scorer.block_size)
            self._shorter[slots] = SlotScorer(self.transformer, *plain)
        return self._shorter[slots]

    def nll(self, text: str) -> np.ndarray:
        """The exact chain-rule NLL of each token of a text, left to right, as of the start of a document.

        A dense model takes a pass for each token; the rest of its window stays masked.

        Returns:
            (tokens,) float64, nats. Over the text's UTF-8 bytes and ln 2, its sum is the text's bits/byte.

        Raises:
            ValueError: if there is no tokenizer, or the text is empty or longer than a window.
        """
        if self.tokenizer is None:
            raise ValueError(
                "a text needs a tokenizer, but the checkpoint brought none that can be read: use `logits`."
            )
        ids, length = self.tokenizer.encode(text), self.transformer.length
        if not 0 < len(ids) <= length:
            raise ValueError(f"the text must have 1 .. {length} tokens, but it has {len(ids)}.")
        window = np.full((1, length), self.description.end_id, np.int32)
        window[0, : len(ids)] = ids
        return chain_rule_nll(self.scorer, window, last=len(ids))[0]

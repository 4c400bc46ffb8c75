"""A causal model as the Qwen3 class of `transformers` loads it: weights, configuration and tokenizer."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lab.data.tokenizers import BpeTokenizer, ByteTokenizer, Tokenizer
from lab.files import write_atomic, write_json
from lab.training.exchange.description import Description
from lab.training.exchange.exported import CARD, new_folder
from lab.training.exchange.names import LLAMA, from_lab
from lab.training.exchange.tensors import WEIGHTS, write_tensors

START, END = "<|start|>", "<|end|>"
_NOTE = """## As Qwen3

This folder is of the class `Qwen3ForCausalLM` of `transformers`, not of the lab's own form.

- The vocabulary is one larger than the lab's: its last id, {start}, starts each stream as BOS (`{token}`).
  The lab never predicts it; here it has a logit, of an embedding that was never trained to be predicted.
  Leave it out of a softmax, as generation does by `suppress_tokens`.
- {gains} Input and output embeddings are {tied}.
- {tokenizer}

```python
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
logits = model(torch.tensor([[{start}, *ids]])).logits[..., :{start}]
```
"""


def write_qwen3(
    folder: Path,
    description: Description,
    weights: Mapping[str, np.ndarray],
    tokenizer: Tokenizer,
    card: str,
) -> None:
    """Write a causal model for `transformers` into a new folder, which appears complete or not at all.

    Norms without gains get gains of 1, and the start slot becomes BOS, an id after the vocabulary.

    Args:
        folder: a new or empty one.
        description: of the model.
        weights: by the paths of the network's variables.
        tokenizer: of its ids. Bytes and BPE are written too; a preset of keras_hub is not.
        card: of the model, to which a note is added.

    Raises:
        ValueError: saying why, if the Qwen3 class does not compute what the model does.
    """
    if reasons := list(_reasons(description)):
        raise ValueError(
            f"the arm {description.arm!r} cannot be a model of the Qwen3 class: {'; '.join(reasons)}."
        )
    a = description.architecture
    serialized = _fast_tokenizer(tokenizer, a.start_id)
    with new_folder(folder) as temporary:
        write_tensors(temporary / WEIGHTS, from_lab(LLAMA, a, weights))
        write_json(temporary / "config.json", _config(description))
        ids = {"bos_token_id": a.start_id, "eos_token_id": description.end_id}
        write_json(temporary / "generation_config.json", {**ids, "suppress_tokens": [a.start_id]})
        if serialized:
            write_atomic(temporary / "tokenizer.json", serialized.encode())
            named = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": START, "eos_token": END}
            write_json(temporary / "tokenizer_config.json", named)
        note = _NOTE.format(
            start=a.start_id,
            token=START,
            gains="Norms have their gains."
            if a.norm_gain
            else "Norms have no gains in the lab: here all are 1.",
            tied="tied" if a.tie_embeddings else "two tables",
            tokenizer="The tokenizer is here, and puts the start before a text."
            if serialized
            else f"The tokenizer is not here: it is {description.tokenizer}, of keras_hub.",
        )
        own, _, rest = card.partition("## Load it")
        write_atomic(temporary / CARD, f"{own}{note}\n{rest[rest.index('## License') :]}".encode())


def _reasons(description: Description) -> Iterator[str]:
    """Why it cannot be one."""
    a, factors = description.architecture, description.factors
    if not factors.reads_causally:
        yield f"it is read in passes with compute={factors.compute}, and that class has causal ones alone"
    elif factors.compute == "causal" and factors.order != "left_to_right":
        yield f"it is trained on order={factors.order}, and that class predicts the next token alone"
    if a.target_embedding:
        yield (
            "each slot is told which position it predicts by an added embedding, which that class has not; "
            "train with model.target_embedding=false"
        )
    if not a.qk_norm:
        yield "model.qk_norm=false, and that class normalises queries and keys"
    if a.loops != 1:
        yield f"model.loops={a.loops}, and that class goes through its layers once"
    if a.feed_forward != "swiglu":
        yield f"model.feed_forward={a.feed_forward}, and that class has no experts"


def _config(description: Description) -> dict[str, Any]:
    """What `transformers` 4 and 5 read of `config.json`."""
    a = description.architecture
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": a.embedding_rows,
        "hidden_size": a.width,
        "intermediate_size": a.ffn_width,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "head_dim": a.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": a.length,
        "rms_norm_eps": a.norm_epsilon,
        "rope_theta": a.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": a.rope_base},
        "tie_word_embeddings": a.tie_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "bos_token_id": a.start_id,
        "eos_token_id": description.end_id,
        "torch_dtype": "float32",
    }


def _fast_tokenizer(tokenizer: Tokenizer, start_id: int) -> str:
    """It with its end and the start, as the `tokenizers` package writes it; empty for a preset."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
    from tokenizers import Tokenizer as FastTokenizer

    if isinstance(tokenizer, BpeTokenizer):
        made = FastTokenizer.from_str(tokenizer.state()["serialized"])
    elif isinstance(tokenizer, ByteTokenizer):  # byte-level BPE that joins nothing
        made = FastTokenizer(models.BPE({letter: byte for byte, letter in enumerate(_letters())}, []))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    else:
        return ""
    made.add_special_tokens([AddedToken(END, special=True), AddedToken(START, special=True)])
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", pair=f"{START} $A $B", special_tokens=[(START, start_id)]
    )
    if (made.token_to_id(END), made.token_to_id(START)) != (tokenizer.end_id, start_id):
        raise ValueError(
            f"{END} and {START} must get the ids {tokenizer.end_id} and {start_id}, but a token of the "
            "vocabulary has one of these names."
        )
    return str(json.dumps(json.loads(made.to_str()), ensure_ascii=False))


def _letters() -> list[str]:
    """The character by which byte-level BPE spells each byte: itself if it can be seen, else one beyond 255.

    Reference: Radford et al. 2019, section 2.2, in their public code.
    """
    seen = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in seen else next(others)) for byte in range(256)]

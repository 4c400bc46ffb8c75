"""How checkpoints of other programs name and lay out the weights that the lab has too."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lab.models.architecture import Architecture
from lab.training.variables import Arrays

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Names:
    """The names of tensors. Those of a layer follow `layer`, in which {} is its number from 0.

    A matrix of theirs has shape (outputs, inputs), a kernel of the lab (inputs, outputs). Queries, keys and
    values are one kernel here, and so are the gate and what it gates. Heads lie one after the other in both,
    and RoPE turns features i and i + head_dim / 2 in both, so that no row changes its place.
    """

    embedding: str
    output_norm: str
    head: str
    layer: str
    attention_norm: str
    query: str
    key: str
    value: str
    query_norm: str
    key_norm: str
    attention_output: str
    feed_forward_norm: str
    gate: str
    up: str
    down: str

    def of_layer(self, number: int, part: str) -> str:
        """The whole name of a layer's part."""
        return self.layer.format(number) + str(getattr(self, part))


LLAMA = Names(
    embedding="model.embed_tokens.weight",
    output_norm="model.norm.weight",
    head="lm_head.weight",
    layer="model.layers.{}.",
    attention_norm="input_layernorm.weight",
    query="self_attn.q_proj.weight",
    key="self_attn.k_proj.weight",
    value="self_attn.v_proj.weight",
    query_norm="self_attn.q_norm.weight",
    key_norm="self_attn.k_norm.weight",
    attention_output="self_attn.o_proj.weight",
    feed_forward_norm="post_attention_layernorm.weight",
    gate="mlp.gate_proj.weight",
    up="mlp.up_proj.weight",
    down="mlp.down_proj.weight",
)
LLADA = Names(
    embedding="model.transformer.wte.weight",
    output_norm="model.transformer.ln_f.weight",
    head="model.transformer.ff_out.weight",
    layer="model.transformer.blocks.{}.",
    attention_norm="attn_norm.weight",
    query="q_proj.weight",
    key="k_proj.weight",
    value="v_proj.weight",
    query_norm="q_norm.weight",
    key_norm="k_norm.weight",
    attention_output="attn_out.weight",
    feed_forward_norm="ff_norm.weight",
    gate="ff_proj.weight",
    up="up_proj.weight",
    down="ff_out.weight",
)
# Variable of a block -> the parts that are joined in it; a norm's is one of gains, the others are matrices.
_NORMS = {
    "attention_norm/scale": "attention_norm",
    "attention/query_norm/scale": "query_norm",
    "attention/key_norm/scale": "key_norm",
    "feed_forward_norm/scale": "feed_forward_norm",
}
_KERNELS = {
    "attention/query_key_value/kernel": ("query", "key", "value"),
    "attention/output/kernel": ("attention_output",),
    "feed_forward/gate_and_up/kernel": ("gate", "up"),
    "feed_forward/output/kernel": ("down",),
}
_EMBEDDING, _HEAD = "transformer/token_embedding/embeddings", "transformer/token_embedding/reverse_embeddings"
_OUTPUT_NORM = "transformer/output_norm/scale"


def tensor_shapes(names: Names, architecture: Architecture, rows: int) -> dict[str, Shape]:
    """Every tensor of a checkpoint of this architecture, gains of norms included: name -> shape.

    Args:
        names: of the tensors.
        architecture: of the network.
        rows: of the table of embeddings, and of the head where that is another.
    """
    a = architecture
    table = (rows, a.width)
    shapes: dict[str, Shape] = {names.embedding: table, names.output_norm: (a.width,)}
    if not a.tie_embeddings:
        shapes[names.head] = table
    for layer in range(a.layers):
        for part, shape in _part_shapes(a).items():
            shapes[names.of_layer(layer, part)] = shape
    return shapes


def _part_shapes(a: Architecture) -> dict[str, Shape]:
    """The tensors of a layer."""
    features = {"query": a.heads, "key": a.kv_heads, "value": a.kv_heads}
    return {
        "attention_norm": (a.width,),
        **{part: (heads * a.head_dim, a.width) for part, heads in features.items()},
        **({"query_norm": (a.head_dim,), "key_norm": (a.head_dim,)} if a.qk_norm else {}),
        "attention_output": (a.width, a.heads * a.head_dim),
        "feed_forward_norm": (a.width,),
        "gate": (a.ffn_width, a.width),
        "up": (a.ffn_width, a.width),
        "down": (a.width, a.ffn_width),
    }


def to_lab(names: Names, architecture: Architecture, tensors: Mapping[str, np.ndarray]) -> Arrays:
    """The lab's variables from the tensors of a checkpoint, all of which are there in their shapes."""
    arrays = {_EMBEDDING: tensors[names.embedding], _OUTPUT_NORM: tensors[names.output_norm]}
    if not architecture.tie_embeddings:
        arrays[_HEAD] = tensors[names.head].T
    for layer in range(architecture.layers):
        for variable, part in _norms(architecture):
            arrays[f"transformer/block_{layer}/{variable}"] = tensors[names.of_layer(layer, part)]
        for variable, parts in _KERNELS.items():
            rows = [tensors[names.of_layer(layer, part)] for part in parts]
            arrays[f"transformer/block_{layer}/{variable}"] = np.concatenate(rows).T
    return arrays


def from_lab(names: Names, architecture: Architecture, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The tensors of a checkpoint from the lab's variables; where norms have no gains, their gains are 1."""
    tensors = {}
    shapes = tensor_shapes(names, architecture, architecture.embedding_rows)

    def gain(name: str, variable: str) -> None:
        ones = np.ones(shapes[name], np.float32)
        tensors[name] = arrays[variable] if architecture.norm_gain else ones

    tensors[names.embedding] = arrays[_EMBEDDING]
    gain(names.output_norm, _OUTPUT_NORM)
    if not architecture.tie_embeddings:
        tensors[names.head] = arrays[_HEAD].T
    for layer in range(architecture.layers):
        for variable, part in _norms(architecture):
            gain(names.of_layer(layer, part), f"transformer/block_{layer}/{variable}")
        for variable, parts in _KERNELS.items():
            joined = [names.of_layer(layer, part) for part in parts]
            ends = np.cumsum([shapes[name][0] for name in joined])[:-1]
            rows = np.split(arrays[f"transformer/block_{layer}/{variable}"].T, ends)
            tensors.update(zip(joined, rows, strict=True))
    return tensors


def _norms(architecture: Architecture) -> Iterator[tuple[str, str]]:
    for variable, part in _NORMS.items():
        if architecture.qk_norm or part not in ("query_norm", "key_norm"):
            yield variable, part

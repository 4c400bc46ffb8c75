"""Checkpoints of other programs, by path: the source paper's, LLaDA's, and LLaMA's and Qwen3's.

What a configuration asks for is either what the lab's Transformer computes, or refused by name; so is each
key and each tensor that is not known.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lab.files import read_json
from lab.models.architecture import Architecture
from lab.results import DamagedError
from lab.training.exchange.card import imported_card
from lab.training.exchange.description import Description
from lab.training.exchange.exported import refuse_full, write_model
from lab.training.exchange.layouts import IDS, LAYOUTS, Layout
from lab.training.exchange.names import tensor_shapes, to_lab
from lab.training.exchange.tensors import read_parts
from lab.training.exchange.tokenizers import CheckpointTokenizer, read_foreign_tokenizer
from lab.training.variables import Arrays

CONFIG = "config.json"
SHOWN = 6  # names in a message
_KINDS: Mapping[str, type] = {"norm_epsilon": float, "rope_base": float, "tie_embeddings": bool}
_SAID = {int: "a whole number", float: "a number", bool: "true or false"}


class Ids(NamedTuple):
    """Ids in place of those that a checkpoint's files say; None takes theirs.

    Attributes:
        mask: what hides a token, of a dense model.
        start: the token whose embedding starts a causal stream.
        end: what follows each document.
    """

    mask: int | None = None
    start: int | None = None
    end: int | None = None


def import_checkpoint(
    checkpoint: Path,
    folder: Path,
    length: int | None = None,
    ids: Ids = Ids(),  # noqa: B008 (frozen)
) -> tuple[Description, str]:
    """Read a checkpoint of another program, and write it as the lab's own exported model.

    Tensors keep their dtype. A causal stream starts, in place of a mask that such a model does not have, with
    a row of its own after the vocabulary: a copy of the start token's embedding, which is never predicted,
    while the start token itself may be. The mask of a dense model stays inside the vocabulary; it is never
    predicted either.

    Args:
        checkpoint: its folder, of `config.json` and safetensors, in one file or in parts.
        folder: a new or empty one.
        length: of windows; by default the longest that the checkpoint says.
        ids: in place of those that its files say.

    Returns:
        What the model says of itself, and why it has no tokenizer; empty if it has one.

    Raises:
        ValueError: naming the key, the tensor or the file that is missing, not known or not implemented.
    """
    refuse_full(folder)
    path = checkpoint / CONFIG
    read = read_json(path)
    layout = _find_layout(read, path)
    config = _checked(read, layout, path)
    tokenizer, missing = _tokenizer(checkpoint, config["vocab_size"])
    ids = _ids(config, layout, path, ids, tokenizer)
    architecture = _architecture(config, layout, path, length, ids.mask)
    weights = _weights(checkpoint, layout, architecture, ids.start)
    description = Description(
        arm=layout.arm,
        factors=layout.factors,
        architecture=architecture,
        tokenizer=tokenizer.name if tokenizer else "",
        end_id=ids.end,  # type: ignore[arg-type]  # checked with the others
        origin={"checkpoint": checkpoint.resolve().name, "which is": layout.title},
    )
    card = imported_card(description, sum(array.size for array in weights.values()))
    write_model(folder, description, weights, tokenizer and tokenizer.ended_by(description.end_id), card)
    return description, missing


def _find_layout(config: Any, path: Path) -> Layout:
    named = config.get("architectures") if isinstance(config, dict) else None
    if named not in [[name] for name in LAYOUTS]:
        raise ValueError(f"{path}: `architectures` must name one of {sorted(LAYOUTS)}, but it is {named!r}.")
    return LAYOUTS[named[0]]


def _checked(read: Mapping[str, Any], layout: Layout, path: Path) -> dict[str, Any]:
    """A configuration that is known, and asks for a network that is implemented."""
    config = {**read, **_read_rope(read, path)}
    for key, values in layout.only.items():
        found = config.get(key, values[0])
        if not any(found == value and type(found) is type(value) for value in values):
            raise ValueError(f"{path}: {key}={found!r} is not implemented, only {_alternatives(values)}.")
    kinds = config.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds)):
        raise ValueError(f"{path}: layer_types={kinds!r} is not implemented, only full_attention.")
    if config.get("embedding_size") not in (None, config.get("vocab_size")):
        raise ValueError(
            f"{path}: embedding_size={config['embedding_size']!r} is not implemented where vocab_size is "
            f"another, {config.get('vocab_size')!r}."
        )
    known = {*layout.keys.values(), *layout.only, *layout.looked_at, *layout.unread, *IDS}
    if unknown := sorted(config.keys() - known):
        raise ValueError(f"{path}: what {', '.join(unknown)} ask for is not known, and so not implemented.")
    for field, key in layout.keys.items():
        value, kind = config.get(key), _KINDS.get(field, int)
        if value is None and field in layout.defaults:
            continue
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, (kind, int)):
            raise ValueError(f"{path} must say {key}, {_SAID[kind]}, but it is {value!r}.")
    return config


def _alternatives(values: Iterable[Any]) -> str:
    return " or ".join(json.dumps(value) for value in values)


def _read_rope(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The base of RoPE where `transformers` 5 keeps it."""
    rope = config.get("rope_parameters")
    if rope is None:
        return {}
    others = {"rope_type": ("default",), "partial_rotary_factor": (1, 1.0)}
    for key, value in rope.items() if isinstance(rope, dict) else [("rope_parameters", rope)]:
        if key != "rope_theta" and value not in others.get(key, ()):
            raise ValueError(f"{path}: rope_parameters with {key}={value!r} is not implemented.")
    return {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}


def _architecture(
    config: Mapping[str, Any], layout: Layout, path: Path, length: int | None, mask_id: int | None
) -> Architecture:
    said = {field: config.get(key) for field, key in layout.keys.items()}
    values = {**said, **{field: value for field, value in layout.defaults.items() if said[field] is None}}
    if length is not None:
        if not 1 <= length <= values["length"]:
            raise ValueError(
                f"`length` must be in 1 .. {values['length']}, which {path} says, but got length={length}."
            )
        values["length"] = length
    try:
        return Architecture(
            **values,
            qk_norm=layout.qk_norm,
            norm_gain=True,
            target_embedding=False,
            mask_id=mask_id,  # type: ignore[arg-type]  # None is the id after the vocabulary
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _weights(checkpoint: Path, layout: Layout, architecture: Architecture, start: int | None) -> Arrays:
    """The lab's variables, from tensors all of which are expected, and of which none is missing."""
    names, tensors = layout.names, read_parts(checkpoint)
    _drop_frequencies(tensors, architecture, checkpoint)
    if architecture.tie_embeddings and names.head in tensors:
        head, table = tensors.pop(names.head), tensors.get(names.embedding)
        if table is None or not np.array_equal(head, table):
            raise DamagedError(
                f"{checkpoint}: {names.head!r} must equal {names.embedding!r}, to which {CONFIG} ties it."
            )
    shapes = tensor_shapes(names, architecture, architecture.vocab_size)
    missing, unknown = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or unknown:
        raise DamagedError(
            f"{checkpoint}: the weights must be those that {CONFIG} describes, but missing are "
            f"{_some(missing)}, and not known are {_some(unknown)}."
        )
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise DamagedError(
                f"{checkpoint}: {name!r} must have shape {shape}, as {CONFIG} says, but it has "
                f"{tensors[name].shape}."
            )
    if len({array.dtype for array in tensors.values()}) > 1:
        tensors = {name: array.astype(np.float32) for name, array in tensors.items()}
    if layout.causal:
        table = tensors[names.embedding]
        tensors[names.embedding] = np.concatenate([table, table[start : int(start or 0) + 1]])
        if not architecture.tie_embeddings:  # its column is never read
            head = tensors[names.head]
            tensors[names.head] = np.concatenate([head, np.zeros_like(head[:1])])
    return to_lab(names, architecture, tensors)


def _drop_frequencies(tensors: Arrays, architecture: Architecture, checkpoint: Path) -> None:
    """Take out the frequencies of RoPE, which older checkpoints hold beside their base."""
    c = architecture.head_dim
    expected = architecture.rope_base ** (-np.arange(0, c, 2) / c)
    for name in [name for name in tensors if name.endswith(".rotary_emb.inv_freq")]:
        held = tensors.pop(name).astype(np.float64)
        if held.shape != expected.shape or not np.allclose(held, expected, rtol=0.01):
            raise DamagedError(
                f"{checkpoint}: {name!r} must be the frequencies of the rotary base "
                f"{architecture.rope_base}, which {CONFIG} says, but it is not."
            )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN]) or "none"
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def _ids(
    config: Mapping[str, Any],
    layout: Layout,
    path: Path,
    given: Ids,
    tokenizer: CheckpointTokenizer | None,
) -> Ids:
    """The ids that a model of this kind needs: those that are given, else those that its files say.

    The end that the tokenizer's own configuration names comes before that of `config.json`: the source
    paper's for the vocabulary of GPT-2 says 0 there, which is an exclamation mark.
    """
    end = _first(given.end, _end_of(path.parent, tokenizer), _id(config, "eos_token_id"))
    needed = {"end": end}
    if layout.causal:
        needed["start"] = _first(given.start, _id(config, "bos_token_id"), end)
    else:
        needed["mask"] = _first(given.mask, _id(config, "mask_token_id"))
    for name, value in needed.items():
        if value is None or not 0 <= value < config["vocab_size"]:
            raise ValueError(
                f"{path} must say which id is the {name}'s, below its vocab_size={config['vocab_size']}, "
                f"but it says {value}; --{name} gives another."
            )
    return Ids(**needed)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _id(config: Mapping[str, Any], key: str) -> int | None:
    """A token's id; None where it is not said, or several are."""
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _tokenizer(checkpoint: Path, vocab_size: int) -> tuple[CheckpointTokenizer | None, str]:
    """The checkpoint's tokenizer, whose end is not known yet; or why there is none."""
    try:
        return read_foreign_tokenizer(checkpoint, vocab_size), ""
    except ValueError as error:
        return None, str(error)


def _end_of(checkpoint: Path, tokenizer: CheckpointTokenizer | None) -> int | None:
    """The id of the end that the tokenizer's own configuration names, if there is one."""
    path = checkpoint / "tokenizer_config.json"
    if tokenizer is None or not path.is_file():
        return None
    config = read_json(path)
    named = config.get("eos_token") if isinstance(config, dict) else None
    return tokenizer.id_of(named.get("content") if isinstance(named, dict) else named)

"""A model in a folder that travels: weights, description, tokenizer and card."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lab.data.tokenizers import Tokenizer
from lab.evaluation.scorer import SlotScorer
from lab.files import write_atomic
from lab.models.transformer import Transformer
from lab.results import DamagedError
from lab.training.exchange.description import Description
from lab.training.exchange.model import Model
from lab.training.exchange.tensors import WEIGHTS, read_tensors, write_tensors
from lab.training.exchange.tokenizers import read_tokenizer, write_tokenizer
from lab.training.variables import assign_variables

CARD = "README.md"
BATCH = 32  # rows a pass


def write_model(
    folder: Path,
    description: Description,
    weights: Mapping[str, np.ndarray],
    tokenizer: Tokenizer | None,
    card: str,
) -> None:
    """Write a model into a new folder, which appears complete or not at all.

    Args:
        folder: a new or empty one.
        description: what it says of itself.
        weights: by the paths of the network's variables.
        tokenizer: of its ids, if there is one.
        card: the text of its `README.md`.

    Raises:
        ValueError: if there is something in the folder.
    """
    with new_folder(folder) as temporary:
        write_tensors(temporary / WEIGHTS, weights)
        description.write(temporary)
        if tokenizer is not None:
            write_tokenizer(temporary, tokenizer)
        write_atomic(temporary / CARD, card.encode())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill beside its place, to which it, or for the current one what it holds, moves at the end.

    Raises:
        ValueError: if its place holds something.
    """
    refuse_full(folder)
    folder = folder.absolute()  # "." has no name
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.is_dir() and folder.samefile("."):  # a shell would stay in the one that is replaced
            for path in temporary.iterdir():
                path.replace(folder / path.name)
            temporary.rmdir()
        else:
            temporary.replace(folder)  # which may be there, empty
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def refuse_full(folder: Path) -> None:
    """Refuse to write where something is.

    Raises:
        ValueError: if there is something in the folder, or it is a file.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} must be a new or an empty folder, but it holds something.")


def load_model(folder: str | Path, batch_size: int = BATCH) -> Model:
    """Load a model that `lab export` or `lab import` has written.

    Args:
        folder: that of the model.
        batch_size: rows a pass.

    Raises:
        ValueError: naming the file, if one is missing, damaged, or of another program; or the tensor that is
            missing, too many, or of another shape or dtype.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"expected the folder of an exported model at {folder}, but there is none.")
    description = Description.read(folder)
    tokenizer = read_tokenizer(folder) if description.tokenizer else None
    if tokenizer is not None and tokenizer.vocab_size != description.architecture.vocab_size:
        raise DamagedError(
            f"{folder}: the tokenizer must have the {description.architecture.vocab_size} ids of the model, "
            f"but it has {tokenizer.vocab_size}."
        )
    weights = read_tensors(folder / WEIGHTS)
    transformer = Transformer(description.architecture, dtype=description.dtype, name="transformer")
    transformer.build()
    try:  # what is stored in half the bytes has its value in float32 too
        assign_variables(
            transformer.trainable_variables,
            {name: array.astype(np.float32) for name, array in weights.items()},
        )
    except ValueError as error:
        raise DamagedError(f"{folder / WEIGHTS}: {error}") from None
    causal = description.factors.reads_causally
    scorer = SlotScorer(transformer, causal, batch_size, description.block_size)
    return Model(description, scorer, tokenizer)

"""What an exported model says of itself, in `config.json` beside its weights."""

from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from lab.config import FactorsConfig
from lab.files import read_json, write_json
from lab.models.architecture import Architecture
from lab.results import Record, parse_record

DESCRIPTION = "config.json"
FORMAT: Literal["ablation-lab/1"] = "ablation-lab/1"


class Description(Record):
    """All that it takes to compute with the weights, and where they come from.

    Attributes:
        format: of the folder.
        arm: its name.
        factors: how it was trained, from which follows how it is read: in causal passes or dense ones, in
            blocks or not.
        architecture: of the network, with the ids of the mask and of the start slot.
        dtype: in which it computes, a policy of Keras.
        tokenizer: its name; empty where there is none.
        end_id: the id that follows each document.
        origin: where the weights come from, for people: nothing is computed from it.
    """

    format: Literal["ablation-lab/1"] = FORMAT
    arm: str
    factors: FactorsConfig
    architecture: Architecture
    dtype: Literal["float32", "mixed_bfloat16"] = "float32"
    tokenizer: str
    end_id: int
    origin: dict[str, Any] = {}  # noqa: RUF012  # pydantic copies it

    @field_validator("architecture", mode="before")
    @classmethod
    def _known_fields(cls, value: Any) -> Any:
        known = {field.name for field in fields(Architecture)}
        if isinstance(value, dict) and (unknown := sorted(value.keys() - known)):
            raise ValueError(f"must have no other keys than {sorted(known)}, but got {unknown}.")
        return value

    @model_validator(mode="after")
    def _end_is_a_token(self) -> "Description":
        if not 0 <= self.end_id < self.architecture.vocab_size:
            raise ValueError(
                f"`end_id` must be in 0 .. {self.architecture.vocab_size - 1}, but got end_id={self.end_id}."
            )
        return self

    @property
    def block_size(self) -> int:
        """B of the passes in which the weights are read; 0 where a window is one block."""
        return 0 if self.factors.reads_causally else self.factors.block_size(self.architecture.length)

    def write(self, folder: Path) -> None:
        """Write it into a folder."""
        write_json(folder / DESCRIPTION, self.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """The description in a folder.

        Raises:
            ValueError: if there is none, it is of another program, or damaged.
        """
        path = folder / DESCRIPTION
        content = read_json(path)
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise ValueError(
                f"{path} must be of a model that the lab exported, format {FORMAT!r}, but its format is "
                f"{found!r}. A checkpoint of another program is read by `lab import`."
            )
        return parse_record(cls, content, path)

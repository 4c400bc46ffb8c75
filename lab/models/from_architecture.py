"""How layers that are made from an `Architecture` go through their configurations."""

from dataclasses import asdict
from typing import Any

from lab.models.architecture import Architecture


class FromArchitecture:
    """Mixin for a Keras layer with an argument and attribute `architecture`: in its config it is a dict."""

    architecture: Architecture

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "architecture": asdict(self.architecture)}  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Rebuild from `get_config`."""
        architecture = Architecture(**config["architecture"])
        return super().from_config({**config, "architecture": architecture})  # type: ignore[misc]

"""How layers that are made from an `Architecture` go through their configurations."""

from dataclasses import asdict
from typing import Any, ClassVar

from lab.models.architecture import Architecture


class FromArchitecture:
    """Mixin for a Keras layer whose arguments are `architecture` and some plain values, all its attributes.

    Attributes:
        PLAIN: the names of these values. In the layer's config the architecture is a dict beside them.
    """

    PLAIN: ClassVar[tuple[str, ...]]
    architecture: Architecture

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        plain = {name: getattr(self, name) for name in self.PLAIN}
        return {**super().get_config(), "architecture": asdict(self.architecture), **plain}  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Rebuild from `get_config`."""
        architecture = Architecture(**config["architecture"])
        return super().from_config({**config, "architecture": architecture})  # type: ignore[misc]

"""Keras as training needs it: without what it imports only because it is installed."""

import os
import sys

from lab.environment import require_backend

NO_BACKEND = "the backend cannot be imported"  # by which a driver tells that every run would end so
# Half a second to a second each. Keras shows galleries of pictures with the first, takes data frames of the
# second, and lends models to the third.
UNUSED = ("matplotlib", "pandas", "sklearn")


def import_keras() -> None:
    """Import Keras as where these packages are not installed; afterwards they can be imported as ever.

    Does nothing more than import what is imported already.

    Raises:
        ValueError: if the backend is unknown, missing or damaged.
    """
    require_backend()
    hidden = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes an import fail
    try:
        import keras  # noqa: F401
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"KERAS_BACKEND={os.environ['KERAS_BACKEND']}: {NO_BACKEND}: {said}") from error
    finally:
        for name in hidden:
            del sys.modules[name]

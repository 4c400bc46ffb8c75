"""Keras as training needs it: without what it imports only because it is installed."""

import sys

# Half a second each. Keras shows galleries of pictures with the one, and takes data frames of the other.
UNUSED = ("matplotlib", "pandas")


def import_keras() -> None:
    """Import Keras as where these packages are not installed; afterwards they can be imported as ever.

    Does nothing more than import what is imported already.
    """
    hidden = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes an import fail
    try:
        import keras  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]

"""What must not be told: the password of a database, in a URL or in the environment."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

# A run needs no database; libpq would read the second.
VARIABLES = ("STORAGE", "PGPASSWORD")


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a run: all but the variables that may hold a database's password."""
    return {name: value for name, value in environment.items() if name not in VARIABLES}


def parse_url(url: str) -> "URL":
    """A database URL in parts.

    Raises:
        ValueError: if it is not a URL; neither the message nor its context repeats it.
    """
    from sqlalchemy.engine import make_url  # not before it is needed: a run needs no database
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        pass  # raised below, outside of the handler, so that no context holds the text
    raise ValueError(
        "`storage` must be a database URL such as sqlite:///study.db or postgresql://user@host/name, "
        "but got a text that is none."
    )


def masked(url: str) -> str:
    """A database URL without its password and its query, fit to be shown.

    Raises:
        ValueError: if it is not a URL.
    """
    parsed = parse_url(url)
    database = parsed.database and parsed.database.partition("?")[0]  # a file: URI has a query of its own
    return parsed.set(database=database, query={}).render_as_string(hide_password=True)


def redacted(text: str, url: str) -> str:
    """A text without the secrets of a database URL: its password and every value of its query."""
    if not url:
        return text
    parsed = parse_url(url)
    text = text.replace(url, masked(url))
    queried = (value for values in parsed.query.values() for value in _listed(values))
    for secret in sorted({str(parsed.password or ""), *queried} - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _listed(values: str | tuple[str, ...]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else values

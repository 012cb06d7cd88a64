"""Files that are named on the command line: configuration, catalog and state, each one JSON value."""

from __future__ import annotations

import os
from typing import Any

import orjson

from source_timescaledb.errors import ConfigurationError


def json_file(path: str, what: str) -> Any:
    """What a file holds; `what` names it in an error. Raises ConfigurationError."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path given as text on the command line
            return orjson.loads(file.read())
    except OSError as error:
        raise ConfigurationError(
            f"The file of the {what}, {_printable(path)}, cannot be read: {error.strerror}."
        ) from None
    except orjson.JSONDecodeError:
        raise ConfigurationError(f"The file of the {what}, {_printable(path)}, is not valid JSON.") from None


def _printable(path: str) -> str:
    """A path as UTF-8 has it: its bytes may be others, and a message could not be written then."""
    return os.fsencode(path).decode(errors="replace")

"""What environment variables say, as far as they speak of where a connector runs and not of what it reads.

Compose files and Kubernetes hand on what nobody has set as an empty text, and YAML is generous with white space: so a
variable that is empty, or blank, is one that is not set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from source_timescaledb.errors import ConfigurationError

Environment = Mapping[str, str]


def text_of(environment: Environment, name: str) -> str:
    """What a variable says, without white space around it; empty where it is not set."""
    return environment.get(name, "").strip()


def seconds_of(environment: Environment, name: str, default: float) -> float:
    """The seconds that a variable says, or the default. Raises ConfigurationError if it says no number of them."""
    said = text_of(environment, name)
    if not said:
        return default
    try:
        number = float(said)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ConfigurationError(
            f"The environment variable {name} is no number of seconds.",
            remedy=f"Set it to a number of at least 0, or remove it: then it is {default:g}.",
        )
    return number

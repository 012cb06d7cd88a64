"""What every object of the configuration has in common.

A section is frozen: a setting never changes while the connector runs. Unknown settings are allowed, because
saved configurations outlive versions; `reading` names them in the log. Pydantic's own error texts repeat the
input, which may be a secret, so they are kept from holding it; `reading` writes our own.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr
from pydantic_core import PydanticCustomError

EXPECTATION = "expectation"
"""The type of the errors whose text is ours: it goes on after "<setting> must be", and holds no input."""


class Section(BaseModel):
    """One object of the configuration: frozen, tolerant of unknown settings, silent about values."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, arbitrary_types_allowed=True
    )


def expected(what: str) -> PydanticCustomError:
    """Return the error of a setting that should have been `what`, a phrase which never repeats the value."""
    return PydanticCustomError(EXPECTATION, "{what}", {"what": what})


def _pem(secret: SecretStr) -> SecretStr:
    # Forms and environment variables often flatten PEM text to one line with a literal \n in it.
    text = secret.get_secret_value().replace("\\n", "\n").strip() + "\n"
    if not text.startswith("-----BEGIN "):
        raise expected("PEM text that begins with -----BEGIN")
    return SecretStr(text)


Names = Annotated[tuple[str, ...], AfterValidator(lambda names: tuple(filter(None, names)))]
"""A list of names or patterns. An empty item is a line of a form that nobody has filled in; white space may be meant."""

Pem = Annotated[SecretStr, AfterValidator(_pem)]
"""A certificate or a key as PEM text, one line break at its end."""

"""JDBC URL parameters, as saved in `jdbc_url_params`, said in libpq's words.

Airbyte's `source-postgres` connects through pgjdbc, we through libpq. Both know most of the same things under
other names; the table below holds the ones that mean the same in both (pgjdbc's documentation, "Connection
Parameters"; libpq's, "Parameter Key Words"). What libpq has no word for is ignored and said so. Keys that
have a setting of their own are refused, as Airbyte refuses them: two sources for one value would be a riddle.

Values are percent-encoded, as in any URL, and may be secret (`sslpassword`), so none is ever repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote_plus

from typing_extensions import Self

RESERVED: Final = ("currentSchema", "user", "password", "ssl", "sslmode")
"""Keys with settings of their own: schemas, username, password and ssl_mode."""


def _as_it_is(value: str) -> str:
    return value


def _seconds(value: str) -> str:
    return str(int(value)) if int(value) >= 0 else _refuse(value)


def _switch(value: str) -> str:
    return {"true": "1", "false": "0"}[value.lower()]


def _balancing(value: str) -> str:
    return {"true": "random", "false": "disable"}[value.lower()]


def _target(value: str) -> str:
    # libpq cannot prefer a primary and still take a standby, so that wish falls back to taking any server.
    return {
        "any": "any", "preferprimary": "any", "primary": "primary", "master": "primary",
        "secondary": "standby", "slave": "standby", "preferslave": "prefer-standby",
        "prefersecondary": "prefer-standby",
    }[value.lower()]  # fmt: skip


def _refuse(value: str) -> str:
    raise ValueError(value)


TRANSLATIONS: Final[Mapping[str, tuple[str, Callable[[str], str], str]]] = {
    "connectTimeout": ("connect_timeout", _seconds, "a whole number of seconds"),
    "loginTimeout": ("connect_timeout", _seconds, "a whole number of seconds"),
    "tcpKeepAlive": ("keepalives", _switch, "true or false"),
    "ApplicationName": ("application_name", _as_it_is, "a text"),
    "options": ("options", _as_it_is, "a text"),
    "targetServerType": ("target_session_attrs", _target, "any, primary, secondary or preferSecondary"),
    "loadBalanceHosts": ("load_balance_hosts", _balancing, "true or false"),
    "sslrootcert": ("sslrootcert", _as_it_is, "a file name"),
    "sslcert": ("sslcert", _as_it_is, "a file name"),
    "sslkey": ("sslkey", _as_it_is, "a file name"),
    "sslpassword": ("sslpassword", _as_it_is, "a text"),
    "sslNegotiation": ("sslnegotiation", str.lower, "postgres or direct"),
    "gssEncMode": ("gssencmode", str.lower, "disable, allow, prefer or require"),
    "kerberosServerName": ("krbsrvname", _as_it_is, "a text"),
    "channelBinding": ("channel_binding", str.lower, "disable, prefer or require"),
    "requireAuth": ("require_auth", _as_it_is, "a list of methods"),
}
"""pgjdbc's name: libpq's name, how the value is said there, and what it must be."""


@dataclass(frozen=True, slots=True)
class UrlParameters:
    """What the JDBC URL parameters mean to libpq, and the names of those that mean nothing to it."""

    libpq: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    ignored: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `key1=value1&key2=value2`; ValueError, worded as what it must be, where that fails."""
        known: dict[str, str] = {}
        ignored: list[str] = []
        for pair in filter(None, text.strip().lstrip("?").split("&")):
            key, equals, value = pair.partition("=")
            if not equals:
                raise ValueError("written as key1=value1&key2=value2")
            if key in RESERVED:
                raise ValueError(f"without {', '.join(RESERVED)}, which have settings of their own")
            if key not in TRANSLATIONS:
                ignored.append(key)
                continue
            name, translate, kind = TRANSLATIONS[key]
            try:
                known[name] = translate(unquote_plus(value))
            except (KeyError, ValueError):
                raise ValueError(f"written with {kind} for {key}") from None
        return cls(MappingProxyType(known), tuple(ignored))

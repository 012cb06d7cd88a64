"""From a saved configuration to the model: everything wrong is said at once, and nothing secret is.

Complaints are worded from the spec, not from pydantic's texts: those repeat the input and speak of types
instead of settings. Each complaint is the path of a setting and what it must be.

Saved configurations come from two generations of Airbyte's `source-postgres` (up to 3.7.2 and since 3.8) and
outlive versions of ours. What means nothing here is ignored, with one line for each setting; what cannot be
honoured and would change the meaning of a sync is refused. An empty text or a null is how forms say "not
set", so both count as absent, and so does a blank where a host is asked for: no host has white space around
its name. Databases, schemas and tables may, so there it stays, and sentences show it between quotes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from source_timescaledb.config.model import Configuration
from source_timescaledb.config.section import EXPECTATION
from source_timescaledb.config.spec import known_settings
from source_timescaledb.errors import ConfigurationError

RETIRED: Final = {
    "entra_service_principal_auth": "only its value false is possible here",
    "entra_tenant_id": "it belongs to Entra authentication, which is not used",
    "entra_client_id": "it belongs to Entra authentication, which is not used",
    "replication_method.plugin": "changes are always decoded by pgoutput",
    "replication_method.queue_size": "there is no queue of that kind here",
    "replication_method.debezium_shutdown_timeout_seconds": "there is no Debezium here",
}
"""Settings of `source-postgres` without a meaning here, and why."""

HOSTS: Final = frozenset({"host", "replica_host", "tunnel_host"})
"""Settings that name a host, or several with commas between them."""


def read_configuration(raw: Mapping[str, Any]) -> tuple[Configuration, list[str]]:
    """Check a configuration and return it with one line for each setting that is ignored.

    Raises:
        ConfigurationError: one sentence that names every wrong setting by its path and says what it must be.
    """
    if not isinstance(raw, Mapping):
        raise ConfigurationError("The configuration must be a JSON object.")
    given = _without_blanks(raw)
    complaints = [f"{path} must be free of NUL characters" for path in _with_nul(given)]
    complaints += _refusals(given)
    complaints += _unforwardable(given)
    try:
        configuration = Configuration.model_validate(given)
    except ValidationError as error:
        complaints += [_complaint(detail) for detail in error.errors(include_url=False, include_input=False)]
    if complaints:
        raise ConfigurationError(
            f"The configuration cannot be used: {'; '.join(complaints)}.",
            remedy="Correct these settings and try again.",
        )
    return configuration, list(_ignored(given, configuration))


def _without_blanks(value: Any) -> Any:
    match value:
        case Mapping():
            parts = {
                name: _host(part) if name in HOSTS else _without_blanks(part) for name, part in value.items()
            }
            return {name: part for name, part in parts.items() if part is not None and part != ""}
        case _:
            return value


def _host(given: Any) -> Any:
    """The host without the white space that comes along when somebody pastes it."""
    return ",".join(name.strip() for name in given.split(",")) if isinstance(given, str) else given


def _with_nul(given: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each text with a NUL, at which libpq would silently stop reading."""
    match given:
        case str() if "\0" in given:
            yield path
        case Mapping():
            for name, value in given.items():
                yield from _with_nul(value, f"{path}.{name}".lstrip("."))
        case list():
            for index, value in enumerate(given):
                yield from _with_nul(value, f"{path}[{index}]")


def _refusals(given: dict[str, Any]) -> Iterator[str]:
    """Take out of a configuration what must not be silently ignored, and say why it is refused."""
    if given.get("entra_service_principal_auth") not in (None, False, "false"):
        yield "entra_service_principal_auth must be false, as Microsoft Entra logins are not supported"
    if _member(given, "replication_method", "method") == "Xmin":
        del given["replication_method"]
        yield (
            "replication_method.method must be Standard (with a cursor column) or CDC, as Xmin cannot work "
            "with TimescaleDB: rows of compressed chunks have no xmin"
        )


def _unforwardable(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what no SSH tunnel can lead to: a jump server connects to one host at a time, by its name."""
    if _member(given, "tunnel_method", "tunnel_method") in (None, "NO_TUNNEL"):
        return
    replica = _member(given, "timescaledb", "replica_host")
    for name, host in {"host": given.get("host"), "timescaledb.replica_host": replica}.items():
        if isinstance(host, str) and ("," in host or host.startswith(("/", "@"))):
            yield f"{name} must be one host name, neither a list nor a socket, where an SSH tunnel leads there"


def _member(given: Mapping[str, Any], name: str, member: str) -> Any:
    match given.get(name):
        case Mapping() as section:
            return section.get(member)
        case _:
            return None


def _complaint(detail: ErrorDetails) -> str:
    path, schema = _setting(detail["loc"])
    match detail["type"]:
        case "missing":
            return f"{path} is required"
        case "union_tag_not_found" | "union_tag_invalid":
            name, choices = _discriminator(schema)
            return f"{path}.{name} must be one of {', '.join(choices)}"
        case "string_too_long":
            return f"{path} must be a text{_bounds(schema)}"
        case kind if kind == EXPECTATION:
            return f"{path} must be {detail['ctx']['what']}"
        case _:
            return f"{path} must be {_expectation(schema)}"


def _setting(location: Sequence[str | int]) -> tuple[str, Mapping[str, Any]]:
    """Return the path of a setting as the user knows it, and its schema.

    Inside a union pydantic's location names the chosen option, which is not a part of the user's path.
    """
    path = ""
    schema = known_settings()
    for step in location:
        if isinstance(step, int):
            path, schema = f"{path}[{step}]", schema.get("items", {})
        elif "oneOf" in schema:
            schema = next(option for option in schema["oneOf"] if step in _constants(option))
        else:
            path = f"{path}.{step}".lstrip(".")
            schema = schema.get("properties", {}).get(step, {})
    return path, schema


def _constants(option: Mapping[str, Any]) -> list[str]:
    return [schema["const"] for schema in option["properties"].values() if "const" in schema]


def _discriminator(schema: Mapping[str, Any]) -> tuple[str, list[str]]:
    names = [name for name, part in schema["oneOf"][0]["properties"].items() if "const" in part]
    return names[0], [constant for option in schema["oneOf"] for constant in _constants(option)]


def _expectation(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if "pattern_descriptor" in schema:
        return f"written in {schema['pattern_descriptor']}"
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false",
             "array": "a list of texts", "object": "a JSON object", "string": "a text"}  # fmt: skip
    return kinds[schema["type"]] + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    match schema:
        case {"minimum": least, "maximum": most}:
            return f" from {least} to {most}"
        case {"minimum": least}:
            return f" of at least {least}"
        case {"maxLength": most}:
            return f" of at most {most} characters"
        case _:
            return ""


def _ignored(given: Mapping[str, Any], configuration: Configuration) -> Iterator[str]:
    for path in _unknown(given, known_settings(), ""):
        reason = RETIRED.get(path, "this connector has no such setting")
        yield f"Ignored the setting {path}: {reason}."
    for name in configuration.jdbc_url_params.ignored:
        yield f"Ignored {name} in the setting jdbc_url_params: libpq has no such parameter."


def _unknown(given: Mapping[str, Any], schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield the path of every given setting that the schema does not know."""
    options = (option for option in schema.get("oneOf", ()) if set(_constants(option)) & _texts(given))
    properties = next(options, schema).get("properties", {})
    for name, value in given.items():
        if name not in properties:
            yield f"{prefix}{name}"
        elif isinstance(value, Mapping):
            yield from _unknown(value, properties[name], f"{prefix}{name}.")


def _texts(given: Mapping[str, Any]) -> set[str]:
    return {value for value in given.values() if isinstance(value, str)}

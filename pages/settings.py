"""The table of settings, by the specification from which Airbyte makes its form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pages.written import drawn
from source_timescaledb.config.spec import connection_specification

HEADING: Final = ("Setting", "In the form", "Default", "What it does")
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting by its path in the configuration."""

    path: str
    title: str
    default: str
    meaning: str


def settings() -> Iterator[Setting]:
    """All settings, in the order of the form."""
    yield from _of(connection_specification(), "")


def setting_table() -> str:
    """The table."""
    return drawn(HEADING, ((f"`{one.path}`", one.title, one.default, one.meaning) for one in settings()))


def _of(node: Schema, prefix: str) -> Iterator[Setting]:
    for name, part in node["properties"].items():
        path, required = f"{prefix}{name}", name in node.get("required", ())
        if "oneOf" in part:
            yield from _choice(part, path)
        elif "properties" in part:
            yield from _of(part, f"{path}.")
        else:
            yield Setting(path, part["title"], _default(part, required=required), _meaning(part))


def _choice(part: Schema, path: str) -> Iterator[Setting]:
    """A choice between objects: first what chooses, then what each of them has besides, once."""
    options = part["oneOf"]
    chooser = next(name for name, one in options[0]["properties"].items() if "const" in one)
    default = part.get("default", {}).get(chooser)
    meanings = (f"`{one['properties'][chooser]['const']}`: {one['description']}" for one in options)
    yield Setting(f"{path}.{chooser}", part["title"], f"`{default}`", "<br>".join(meanings))
    rest: dict[str, tuple[Schema, list[str]]] = {}
    for option in options:
        for name, one in option["properties"].items():
            if name != chooser:
                _, of = rest.setdefault(name, ({**one, "required": name in option.get("required", ())}, []))
                of.append(f"`{option['properties'][chooser]['const']}`")
    for name, (one, of) in rest.items():
        meaning = f"With {', '.join(of)}: {_meaning(one)}"
        yield Setting(f"{path}.{name}", one["title"], _default(one, required=one["required"]), meaning)


def _default(part: Schema, *, required: bool) -> str:
    if required:
        return "required"
    default = part.get("default")
    return "none" if default in (None, "", [], ()) else f"`{orjson.dumps(default).decode()}`"


def _meaning(part: Schema) -> str:
    """The description, with what else the schema says."""
    said = [part["description"]]
    if "enum" in part:
        said.append(f"One of {', '.join(f'`{one}`' for one in part['enum'])}.")
    if "minimum" in part and "maximum" in part:
        said.append(f"From {part['minimum']:,} to {part['maximum']:,}.")
    if part.get("airbyte_secret"):
        said.append("Kept secret.")
    return " ".join(said)

"""The Airbyte spec, generated from the models.

Pydantic describes the models in full JSON Schema; the Airbyte UI, its secret store and the CDK's secret
filter read a plainer dialect. `_plain` translates: references are replaced by what they refer to, an optional
value becomes its type alone (leaving it out is how one says none), a tagged union becomes a `oneOf` whose
options carry a title and a constant, a secret string is marked `airbyte_secret`, and `order` is the order of
the fields in the model. The filter finds secrets only under `properties` and `oneOf`
(airbyte_cdk/utils/airbyte_secrets_utils.py), and those are all that remains.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from source_timescaledb.config.model import Configuration

JsonObject = dict[str, Any]

DOCUMENTATION_URL: Final = "https://docs.airbyte.com/integrations/sources/timescaledb"
GROUPS: Final = (
    {"id": "db"},
    {"id": "auth"},
    {"id": "security", "title": "Security"},
    {"id": "timescaledb", "title": "TimescaleDB"},
    {"id": "advanced", "title": "Advanced"},
    {"id": "performance", "title": "Performance"},
)


def connector_specification() -> JsonObject:
    """Return the ConnectorSpecification of the Airbyte protocol as a new JSON object."""
    return {
        "documentationUrl": DOCUMENTATION_URL,
        "connectionSpecification": connection_specification(),
        "supportsIncremental": True,
        "supported_destination_sync_modes": [],
    }


def connection_specification() -> JsonObject:
    """Return the JSON Schema (draft 7) of the configuration as a new JSON object."""
    schema = Configuration.model_json_schema(mode="validation")
    definitions = schema.pop("$defs")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_plain(schema, definitions),
        "groups": list(GROUPS),
    }


@cache
def known_settings() -> Mapping[str, Any]:
    """Return the one shared copy of that schema, for looking up and not to be changed."""
    return connection_specification()


def _plain(node: JsonObject, definitions: JsonObject) -> JsonObject:
    node = _without_indirection(node, definitions)
    node.pop("discriminator", None)
    node.pop("writeOnly", None)
    if node.get("format") == "password":
        del node["format"]
        node["airbyte_secret"] = True
    if "oneOf" in node:
        node["type"] = "object"
        node["oneOf"] = [_plain(option, definitions) for option in node["oneOf"]]
    if "items" in node:
        node["items"] = _plain(node["items"], definitions)
    if "properties" in node:
        node["properties"] = _ordered(node["properties"], definitions)
        node["additionalProperties"] = True
    return node


def _without_indirection(node: JsonObject, definitions: JsonObject) -> JsonObject:
    """Resolve references and optional types; what the field itself says wins over what its type says."""
    node = dict(node)
    if "$ref" in node:
        definition = definitions[node.pop("$ref").rpartition("/")[2]]
        return _without_indirection({**definition, **node}, definitions)
    for wrapper in ("allOf", "anyOf"):
        if wrapper in node:
            (inner,) = (option for option in node.pop(wrapper) if option != {"type": "null"})
            if node.get("default", ...) is None:
                del node["default"]
            return _without_indirection({**inner, **node}, definitions)
    return node


def _ordered(properties: JsonObject, definitions: JsonObject) -> JsonObject:
    """Number the properties as they stand in the model, the constant that names an option first."""
    plain = {name: _plain(schema, definitions) for name, schema in properties.items()}
    in_order = sorted(plain, key=lambda name: "const" not in plain[name])
    return {name: {**plain[name], "order": order} for order, name in enumerate(in_order)}

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from airbyte_cdk.models import ConnectorSpecification
from airbyte_cdk.utils.airbyte_secrets_utils import get_secrets

from source_timescaledb.config import connector_specification, read_configuration
from source_timescaledb.config.spec import connection_specification
from source_timescaledb.errors import ConfigurationError

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
JUMP = {"tunnel_host": "jump", "tunnel_port": 22, "tunnel_user": "u"}
MINIMAL = {"host": "h", "database": "d", "username": "u"}


def schemas(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for part in [*node.get("properties", {}).values(), *node.get("oneOf", []), node.get("items")]:
        if part:
            yield from schemas(part)


def test_the_spec_is_one_of_the_protocol() -> None:
    specification = ConnectorSpecification(**connector_specification())

    assert specification.supportsIncremental is True


def test_the_spec_is_valid_json_schema() -> None:
    jsonschema.Draft7Validator.check_schema(connection_specification())


def test_the_spec_uses_only_what_the_airbyte_forms_understand() -> None:
    keywords = {keyword for schema in schemas(connection_specification()) for keyword in schema}

    foreign = {"anyOf", "allOf", "$ref", "$defs", "discriminator", "writeOnly", "exclusiveMinimum"}
    assert keywords & foreign == set()


def test_nothing_in_the_spec_is_null() -> None:
    assert "null" not in json.dumps(connector_specification())


def test_every_property_has_a_title_a_type_and_its_place() -> None:
    for schema in schemas(connection_specification()):
        properties = schema.get("properties", {})
        assert [part["order"] for part in properties.values()] == list(range(len(properties)))
        assert all({"title", "type"} <= part.keys() for part in properties.values())


def test_every_property_but_a_discriminator_is_described() -> None:
    undescribed = {
        name
        for schema in schemas(connection_specification())
        for name, part in schema.get("properties", {}).items()
        if "description" not in part and "const" not in part
    }

    assert undescribed == set()


def test_every_top_level_property_is_in_a_listed_group() -> None:
    specification = connection_specification()

    groups = {group["id"] for group in specification["groups"]}
    assert {part["group"] for part in specification["properties"].values()} == groups


def test_every_option_of_a_choice_has_a_title_and_is_told_by_one_required_constant() -> None:
    for schema in schemas(connection_specification()):
        for option in schema.get("oneOf", []):
            constants = [name for name, part in option["properties"].items() if "const" in part]
            assert len(constants) == 1
            assert constants[0] in option["required"]
            assert next(iter(option["properties"])) == constants[0]
            assert option["title"]
            assert option["additionalProperties"] is True


def test_exactly_the_secrets_are_marked_as_such() -> None:
    marked = {
        name
        for schema in schemas(connection_specification())
        for name, part in schema.get("properties", {}).items()
        if part.get("airbyte_secret") is True
    }

    assert marked == {
        "password", "ca_certificate", "client_certificate", "client_key", "client_key_password", "ssh_key",
        "tunnel_user_password", "ssh_key_passphrase",
    }  # fmt: skip


def test_the_secret_filter_of_the_cdk_finds_every_secret() -> None:
    config = {
        **MINIMAL,
        "password": "s1",
        "ssl_mode": {
            "mode": "verify-full", "ca_certificate": "s2", "client_certificate": "s3", "client_key": "s4",
            "client_key_password": "s5",
        },
        "tunnel_method": {"tunnel_method": "SSH_PASSWORD_AUTH", "tunnel_user_password": "s6"},
        "timescaledb": {"ssh_key_passphrase": "s7"},
    }  # fmt: skip

    found = set(get_secrets(connection_specification(), config))

    assert found == {"s1", "s2", "s3", "s4", "s5", "s6", "s7"}


@pytest.mark.parametrize(
    "config",
    [
        MINIMAL,
        {**MINIMAL, "ssl_mode": {"mode": "verify-ca", "ca_certificate": PEM}},
        {**MINIMAL, "replication_method": {"method": "CDC", "replication_slot": "s", "publication": "p"}},
        {**MINIMAL, "timescaledb": {"snapshot_since": "30 days", "include_hypertables": ["a*"]}},
        {**MINIMAL, "timescaledb": {"ssh_host_key": f"SHA256:{'A' * 43}", "ssh_key_passphrase": "p"}},
        {**MINIMAL, "tunnel_method": {**JUMP, "tunnel_method": "SSH_KEY_AUTH", "ssh_key": PEM}},
        {
            **MINIMAL,
            "tunnel_method": {**JUMP, "tunnel_method": "SSH_PASSWORD_AUTH", "tunnel_user_password": "p"},
        },
        {**MINIMAL, "host": " h ", "timescaledb": {"replica_host": " "}},
        {**MINIMAL, "schemas": [""], "timescaledb": {"include_hypertables": ["", "a*"]}},
        {**MINIMAL, "something": "else"},
    ],
)
def test_what_the_model_accepts_the_spec_accepts(config: dict[str, Any]) -> None:
    read_configuration(config)

    jsonschema.validate(config, connection_specification())


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": " "},
        {"schemas": [None]},
        {"port": 0},
        {"ssl_mode": {"mode": "verify-full"}},
        {"replication_method": {"method": "Xmin"}},
        {"replication_method": {"method": "CDC"}},
        {"timescaledb": {"manage_publication": "maybe"}},
        {"timescaledb": {"parallel_chunks": 0}},
        {"replication_method": {"method": "CDC", "replication_slot": "s" * 64, "publication": "p"}},
        {
            "tunnel_method": {
                **JUMP,
                "tunnel_host": " ",
                "tunnel_method": "SSH_PASSWORD_AUTH",
                "tunnel_user_password": "p",
            }
        },
        {"tunnel_method": {**JUMP, "tunnel_method": "SSH_KEY_AUTH"}},
        {"tunnel_method": {**JUMP, "tunnel_method": "SSH_PASSWORD_AUTH"}},
    ],
)
def test_what_the_spec_refuses_the_model_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**MINIMAL, **wrong}, connection_specification())
    with pytest.raises(ConfigurationError):
        read_configuration({**MINIMAL, **wrong})


def test_the_property_names_are_those_of_the_postgres_source() -> None:
    properties = connection_specification()["properties"]

    assert list(properties) == [
        "host", "port", "database", "username", "password", "ssl_mode", "schemas", "jdbc_url_params",
        "tunnel_method", "replication_method", "check_privileges", "checkpoint_target_interval_seconds",
        "max_db_connections", "timescaledb",
    ]  # fmt: skip


def test_two_specifications_share_nothing() -> None:
    connection_specification()["properties"]["host"]["title"] = "changed"

    assert connection_specification()["properties"]["host"]["title"] == "Host"

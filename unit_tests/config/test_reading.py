from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from source_timescaledb.config import Configuration, read_configuration
from source_timescaledb.config.encryption import Require, VerifyFull
from source_timescaledb.config.replication import Cdc, LsnCommitBehaviour, Standard
from source_timescaledb.config.selection import HypertableSelection
from source_timescaledb.config.timescaledb import ManagePublication
from source_timescaledb.config.tunnel import KeyTunnel, NoTunnel, PasswordTunnel
from source_timescaledb.errors import ConfigurationError

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
MINIMAL: dict[str, Any] = {"host": "h", "database": "d", "username": "u"}
CDC = {"method": "CDC", "replication_slot": "slot", "publication": "publication"}
JUMP = {"tunnel_host": "jump.example.com", "tunnel_user": "u"}
BY_PASSWORD = {**JUMP, "tunnel_method": "SSH_PASSWORD_AUTH", "tunnel_user_password": "canary"}

LEGACY = {
    "host": "db.example.com", "port": 5432, "database": "d", "schemas": ["public"], "username": "u",
    "password": "canary", "jdbc_url_params": "connectTimeout=20", "ssl_mode": {"mode": "prefer"},
    "replication_method": {
        **CDC, "plugin": "pgoutput", "initial_waiting_seconds": 300, "queue_size": 10000,
        "lsn_commit_behaviour": "While reading Data", "heartbeat_action_query": "",
        "invalid_cdc_cursor_position_behavior": "Re-sync data",
    },
    "tunnel_method": {"tunnel_method": "NO_TUNNEL"},
}  # fmt: skip

BULK = {
    "host": "db.example.com", "port": 5432, "database": "d", "username": "u", "password": "canary",
    "entra_service_principal_auth": False, "ssl_mode": {"mode": "require"}, "schemas": [],
    "tunnel_method": {"tunnel_method": "NO_TUNNEL"},
    "replication_method": {
        **CDC, "initial_waiting_seconds": 1200, "initial_load_timeout_hours": 8,
        "debezium_shutdown_timeout_seconds": 60, "heartbeat_action_query": "SELECT canary",
    },
    "check_privileges": True, "checkpoint_target_interval_seconds": 300, "max_db_connections": None,
}  # fmt: skip


def sentence(**wrong: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_configuration({**MINIMAL, **wrong})
    return str(caught.value)


def accepted(**given_settings: Any) -> Configuration:
    configuration, ignored = read_configuration({**MINIMAL, **given_settings})
    assert ignored == []
    return configuration


def test_a_minimal_configuration_gets_the_defaults() -> None:
    configuration = accepted()

    assert configuration.port == 5432
    assert configuration.ssl_mode == Require(mode="require")
    assert configuration.replication_method == Standard(method="Standard")
    assert configuration.tunnel_method == NoTunnel(tunnel_method="NO_TUNNEL")
    assert configuration.schemas == ()
    assert configuration.timescaledb.max_transaction_seconds == 1.0
    assert configuration.timescaledb.manage_publication is ManagePublication.CHUNKS
    assert configuration.cdc is None


def test_a_legacy_configuration_of_the_postgres_source_is_accepted() -> None:
    configuration, ignored = read_configuration(LEGACY)

    assert configuration.cdc is not None
    assert configuration.cdc.initial_waiting_seconds == 300
    assert configuration.cdc.lsn_commit_behaviour is LsnCommitBehaviour.WHILE_READING
    assert ignored == [
        "Ignored the setting replication_method.plugin: changes are always decoded by pgoutput.",
        "Ignored the setting replication_method.queue_size: there is no queue of that kind here.",
    ]


def test_a_bulk_configuration_of_the_postgres_source_is_accepted() -> None:
    configuration, ignored = read_configuration(BULK)

    assert isinstance(configuration.replication_method, Cdc)
    assert configuration.replication_method.initial_load_timeout_hours == 8
    assert configuration.replication_method.heartbeat_action_query == "SELECT canary"
    assert [line.partition(":")[0] for line in ignored] == [
        "Ignored the setting entra_service_principal_auth",
        "Ignored the setting replication_method.debezium_shutdown_timeout_seconds",
    ]
    assert "canary" not in "".join(ignored)


def test_an_unknown_setting_is_ignored_by_name_only() -> None:
    _, ignored = read_configuration({**MINIMAL, "colour": "canary", "timescaledb": {"depth": "canary"}})

    assert ignored == [
        "Ignored the setting colour: this connector has no such setting.",
        "Ignored the setting timescaledb.depth: this connector has no such setting.",
    ]


def test_a_jdbc_parameter_without_a_libpq_word_is_ignored_by_name_only() -> None:
    _, ignored = read_configuration({**MINIMAL, "jdbc_url_params": "prepareThreshold=canary"})

    assert ignored == [
        "Ignored prepareThreshold in the setting jdbc_url_params: libpq has no such parameter."
    ]


def test_an_ssh_tunnel_has_the_names_and_the_default_port_of_the_postgres_source() -> None:
    by_key = {**JUMP, "tunnel_method": "SSH_KEY_AUTH", "ssh_key": PEM}

    with_key, with_password = accepted(tunnel_method=by_key), accepted(tunnel_method=BY_PASSWORD)

    assert isinstance(with_key.tunnel_method, KeyTunnel)
    assert isinstance(with_password.tunnel_method, PasswordTunnel)
    assert (with_key.tunnel_method.tunnel_host, with_key.tunnel_method.tunnel_port) == (
        "jump.example.com",
        22,
    )


def test_blank_optional_settings_count_as_absent() -> None:
    configuration = accepted(
        password="", schemas=None, timescaledb={"replica_host": "", "snapshot_since": None}
    )

    assert configuration.password is None
    assert configuration.timescaledb.replica_host is None


def test_white_space_around_a_host_is_not_a_part_of_its_name() -> None:
    configuration = accepted(
        host=" db.example.com\n",
        timescaledb={"replica_host": "\treplica"},
        tunnel_method={**BY_PASSWORD, "tunnel_host": " jump.example.com "},
    )

    assert configuration.host == "db.example.com"
    assert configuration.timescaledb.replica_host == "replica"
    assert isinstance(configuration.tunnel_method, PasswordTunnel)
    assert configuration.tunnel_method.tunnel_host == "jump.example.com"
    assert accepted(host="a, b").host == "a,b"


def test_a_host_of_nothing_but_white_space_is_not_set() -> None:
    told = sentence(host="  ", tunnel_method={**BY_PASSWORD, "tunnel_host": "\t"})

    assert "host is required; tunnel_method.tunnel_host is required." in told
    assert accepted(timescaledb={"replica_host": " "}).timescaledb.replica_host is None


def test_white_space_in_other_names_is_kept_for_they_may_have_it() -> None:
    configuration = accepted(
        database=" d", schemas=[" ", "public "], password=" ", timescaledb={"include_hypertables": [" x*"]}
    )

    assert configuration.database == " d"
    assert configuration.schemas == (" ", "public ")
    assert configuration.password is not None
    assert configuration.password.get_secret_value() == " "
    assert configuration.timescaledb.include_hypertables == (" x*",)


def test_empty_items_of_a_list_are_not_set_and_the_others_keep_their_numbers_in_what_is_said() -> None:
    configuration = accepted(
        schemas=["", "public"], timescaledb={"include_hypertables": [""], "exclude_hypertables": ["a", ""]}
    )

    assert configuration.schemas == ("public",)
    assert configuration.timescaledb.hypertables == HypertableSelection((), ("a",))
    assert "schemas[1] must be a text." in sentence(schemas=["", 1])


def test_every_wrong_setting_is_named_at_once() -> None:
    told = sentence(
        host="",
        port="canary",
        ssl_mode={"mode": "verify-full"},
        replication_method={**CDC, "replication_slot": "Canary Slot"},
        timescaledb={"fetch_rows": 0, "include_hypertables": ["a", 1], "manage_publication": "canary"},
    )

    assert told == (
        "The configuration cannot be used: host is required; "
        "port must be a whole number from 1 to 65535; "
        "ssl_mode.ca_certificate is required; "
        "replication_method.replication_slot must be written in lower-case letters, digits and underscores; "
        "timescaledb.include_hypertables[1] must be a text; "
        "timescaledb.fetch_rows must be a whole number from 1 to 100000; "
        "timescaledb.manage_publication must be one of off, chunks, full. "
        "Correct these settings and try again."
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ssl_mode": {"mode": "canary"}},
         "ssl_mode.mode must be one of disable, allow, prefer, require, verify-ca, verify-full"),
        ({"ssl_mode": {}}, "ssl_mode.mode must be one of"),
        ({"ssl_mode": "canary"}, "ssl_mode must be a JSON object"),
        ({"ssl_mode": {"mode": "verify-ca", "ca_certificate": "canary"}},
         "ssl_mode.ca_certificate must be PEM text that begins with -----BEGIN"),
        ({"ssl_mode": {"mode": "verify-ca", "ca_certificate": PEM, "client_key": PEM}},
         "ssl_mode must be with both client_certificate and client_key, or with neither"),
        ({"password": {"canary": 1}}, "password must be a text"),
        ({"schemas": "canary"}, "schemas must be a list of texts"),
        ({"jdbc_url_params": "user=canary"}, "jdbc_url_params must be without currentSchema, user, password"),
        ({"timescaledb": {"snapshot_since": "canary"}},
         "timescaledb.snapshot_since must be an ISO 8601 date or time"),
        ({"timescaledb": {"replica_port": 5}},
         "timescaledb must be with replica_host wherever it has replica_port"),
        ({"replication_method": {"method": "Xmin"}},
         "replication_method.method must be Standard (with a cursor column) or CDC"),
        ({"entra_service_principal_auth": True}, "entra_service_principal_auth must be false"),
        ({"tunnel_method": {**JUMP, "tunnel_method": "SSH_KEY_AUTH", "ssh_key": "canary"}},
         "tunnel_method.ssh_key must be PEM text that begins with -----BEGIN"),
        ({"tunnel_method": {"tunnel_method": "SSH_PASSWORD_AUTH"}}, "tunnel_method.tunnel_host is required"),
        ({"tunnel_method": {**BY_PASSWORD, "tunnel_port": 0}},
         "tunnel_method.tunnel_port must be a whole number from 1 to 65535"),
        ({"tunnel_method": BY_PASSWORD, "host": "a,b"}, "host must be one host name"),
        ({"tunnel_method": BY_PASSWORD, "timescaledb": {"replica_host": "/run"}},
         "timescaledb.replica_host must be one host name"),
        ({"timescaledb": {"ssh_host_key": "canary"}},
         "timescaledb.ssh_host_key must be SHA256 fingerprints, or lines of known_hosts"),
        ({"replication_method": {**CDC, "replication_slot": "s" * 64}},
         "replication_method.replication_slot must be a text of at most 63 characters"),
        ({"replication_method": {**CDC, "publication": "p" * 64}},
         "replication_method.publication must be a text of at most 63 characters"),
        ({"database": "d\0canary"}, "database must be free of NUL characters"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_told_by_what_it_must_be(wrong: dict[str, Any], told: str) -> None:
    assert told in sentence(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": "canary"},
        {"ssl_mode": {"mode": "canary", "client_key": "canary"}},
        {"password": ["canary"]},
        {"jdbc_url_params": "connectTimeout=canary"},
        {"timescaledb": {"snapshot_since": "canary", "state_mode": "canary"}},
        {"tunnel_method": {"tunnel_method": "SSH_PASSWORD_AUTH", "tunnel_user_password": "canary"}},
    ],
)
def test_a_refused_value_is_repeated_nowhere(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_configuration({**MINIMAL, **wrong})

    printed = traceback.format_exception(caught.type, caught.value, caught.tb)
    assert "canary" not in "".join(printed) + repr(caught.value) + caught.value.detail


def test_no_secret_is_in_the_repr_of_a_configuration() -> None:
    configuration = accepted(
        password="canary",
        jdbc_url_params="sslpassword=canary",
        ssl_mode={
            "mode": "verify-full", "ca_certificate": PEM.replace("AAAA", "canary"),
            "client_certificate": PEM.replace("AAAA", "canary"), "client_key": PEM.replace("AAAA", "canary"),
            "client_key_password": "canary",
        },
        tunnel_method=BY_PASSWORD,
        timescaledb={"ssh_key_passphrase": "canary"},
    )  # fmt: skip

    assert "canary" not in f"{configuration!r} {configuration}"


def test_pem_text_flattened_to_one_line_is_restored() -> None:
    flat = PEM.strip().replace("\n", "\\n")

    configuration = accepted(ssl_mode={"mode": "verify-full", "ca_certificate": flat})

    assert isinstance(configuration.ssl_mode, VerifyFull)
    assert configuration.ssl_mode.ca_certificate.get_secret_value() == PEM


def test_a_configuration_that_is_no_object_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must be a JSON object"):
        read_configuration(["canary"])  # type: ignore[arg-type]  # bad input is the point


TEXT = st.text("aZ 0.-:&=*%\0\n", max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(Configuration.model_fields, JSON),
            "replication_method": st.fixed_dictionaries(
                {"method": st.sampled_from(["CDC", "Xmin", "Standard"]) | JSON},
                optional={"publication": JSON},
            ),
            "entra_service_principal_auth": JSON,
        },
    )
)
def test_any_json_is_either_a_configuration_or_one_sentence(raw: dict[str, Any]) -> None:
    try:
        outcome: object = read_configuration(json.loads(json.dumps(raw)))[0]
    except ConfigurationError as error:
        outcome = error

    told = outcome.message if isinstance(outcome, ConfigurationError) else ""
    assert isinstance(outcome, Configuration) or told.startswith("The configuration cannot be used: ")


@pytest.mark.parametrize(
    ("chosen", "writers", "readers"),
    [
        ({}, 1, 2),
        ({}, 8, 8),
        ({"timescaledb": {"parallel_chunks": 3}}, 8, 3),
        ({"max_db_connections": 4}, 8, 3),
        ({"max_db_connections": 1}, 8, 1),
        ({"max_db_connections": 9}, 1, 2),
    ],
)
def test_each_writer_has_a_reader_unless_their_number_is_set(
    chosen: dict[str, Any], writers: int, readers: int
) -> None:
    configuration, _ = read_configuration({**MINIMAL, **chosen})

    assert configuration.readers(writers) == readers

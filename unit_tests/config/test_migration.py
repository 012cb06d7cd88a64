"""The page on migration says of every setting of Airbyte's Postgres source what becomes of it here.

Names and values are those of its published specifications, of 3.7.2 and of 3.8.11. What becomes of each is tried, not
looked up.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pages.reading import ROOT, table
from source_timescaledb.config import read_configuration
from source_timescaledb.config.reading import RETIRED
from source_timescaledb.config.url_parameters import TRANSLATIONS
from source_timescaledb.errors import ConfigurationError

PAGE: Final = (ROOT / "docs" / "migration.md").read_text()
PEM: Final = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
REQUIRED: Final = {"host": "h", "database": "d", "username": "u"}
CDC: Final = {"method": "CDC", "replication_slot": "slot", "publication": "publication"}
VERIFIED: Final = {"mode": "verify-full", "ca_certificate": PEM}
KEYED: Final = {**VERIFIED, "client_certificate": PEM, "client_key": PEM}
TUNNEL: Final = {"tunnel_host": "t", "tunnel_port": 22, "tunnel_user": "u"}
BY_KEY: Final = {**TUNNEL, "tunnel_method": "SSH_KEY_AUTH", "ssh_key": PEM}
BY_PASSWORD: Final = {**TUNNEL, "tunnel_method": "SSH_PASSWORD_AUTH", "tunnel_user_password": "secret"}

BOTH: Final[dict[str, dict[str, Any]]] = {
    "host": {"host": "db.example.com"},
    "port": {"port": 5432},
    "database": {"database": "d"},
    "schemas": {"schemas": ["public"]},
    "username": {"username": "u"},
    "password": {"password": "secret"},
    "jdbc_url_params": {"jdbc_url_params": "connectTimeout=20"},
    "ssl_mode.mode": {"ssl_mode": {"mode": "prefer"}},
    "ssl_mode.ca_certificate": {"ssl_mode": VERIFIED},
    "ssl_mode.client_certificate": {"ssl_mode": KEYED},
    "ssl_mode.client_key": {"ssl_mode": KEYED},
    "ssl_mode.client_key_password": {"ssl_mode": {**KEYED, "client_key_password": "secret"}},
    "replication_method.method: CDC": {"replication_method": CDC},
    "replication_method.method: Standard": {"replication_method": {"method": "Standard"}},
    "replication_method.method: Xmin": {"replication_method": {"method": "Xmin"}},
    "replication_method.replication_slot": {"replication_method": CDC},
    "replication_method.publication": {"replication_method": CDC},
    "replication_method.initial_waiting_seconds": {
        "replication_method": {**CDC, "initial_waiting_seconds": 1200}
    },
    "replication_method.lsn_commit_behaviour": {
        "replication_method": {**CDC, "lsn_commit_behaviour": "While reading Data"}
    },
    "replication_method.heartbeat_action_query": {
        "replication_method": {**CDC, "heartbeat_action_query": "SELECT 1"}
    },
    "replication_method.invalid_cdc_cursor_position_behavior": {
        "replication_method": {**CDC, "invalid_cdc_cursor_position_behavior": "Re-sync data"}
    },
    "replication_method.initial_load_timeout_hours": {
        "replication_method": {**CDC, "initial_load_timeout_hours": 8}
    },
    "tunnel_method.tunnel_method: NO_TUNNEL": {"tunnel_method": {"tunnel_method": "NO_TUNNEL"}},
    "tunnel_method.tunnel_method: SSH_KEY_AUTH": {"tunnel_method": BY_KEY},
    "tunnel_method.tunnel_method: SSH_PASSWORD_AUTH": {"tunnel_method": BY_PASSWORD},
    "tunnel_method.tunnel_host": {"tunnel_method": BY_KEY},
    "tunnel_method.tunnel_port": {"tunnel_method": BY_KEY},
    "tunnel_method.tunnel_user": {"tunnel_method": BY_KEY},
    "tunnel_method.ssh_key": {"tunnel_method": BY_KEY},
    "tunnel_method.tunnel_user_password": {"tunnel_method": BY_PASSWORD},
}
LEGACY: Final[dict[str, dict[str, Any]]] = {
    "replication_method.plugin": {"replication_method": {**CDC, "plugin": "pgoutput"}},
    "replication_method.queue_size": {"replication_method": {**CDC, "queue_size": 10000}},
}
FROM_3_8: Final[dict[str, dict[str, Any]]] = {
    "replication_method.debezium_shutdown_timeout_seconds": {
        "replication_method": {**CDC, "debezium_shutdown_timeout_seconds": 60}
    },
    "entra_service_principal_auth: false": {"entra_service_principal_auth": False},
    "entra_service_principal_auth: true": {"entra_service_principal_auth": True},
    "entra_tenant_id": {"entra_tenant_id": "tenant"},
    "entra_client_id": {"entra_client_id": "client"},
    "check_privileges": {"check_privileges": True},
    "checkpoint_target_interval_seconds": {"checkpoint_target_interval_seconds": 300},
    "max_db_connections": {"max_db_connections": 4},
}
SETTINGS: Final = {
    name: (generation, config)
    for generation, settings in (("both", BOTH), ("legacy", LEGACY), ("3.8", FROM_3_8))
    for name, config in settings.items()
}


def rows_below(heading: str) -> list[list[str]]:
    """The rows of the table with this heading on the page, without marks for code."""
    return [[cell.strip("`") for cell in row] for row in table(PAGE, heading)]


def becomes(config: dict[str, Any]) -> str:
    """What becomes of a setting in the smallest configuration that has it."""
    try:
        _, ignored = read_configuration({**REQUIRED, **config})
    except ConfigurationError:
        return "refused"
    return "ignored" if ignored else "honoured"


def test_the_page_says_what_becomes_of_every_setting() -> None:
    rows = rows_below("| Setting | In | Here | |")

    said = {setting: (generation, here) for setting, generation, here, _ in rows}
    assert said == {
        setting: (generation, becomes(config)) for setting, (generation, config) in SETTINGS.items()
    }
    assert len(rows) == len(said)


def test_every_setting_that_is_not_honoured_has_its_reason() -> None:
    rows = rows_below("| Setting | In | Here | |")

    assert [setting for setting, _, here, reason in rows if here != "honoured" and not reason] == []


def test_every_setting_that_is_known_to_mean_nothing_here_is_on_the_page() -> None:
    assert set(RETIRED) <= {setting.partition(":")[0] for setting in SETTINGS}


def test_the_page_lists_the_url_parameters_that_libpq_knows() -> None:
    assert rows_below("| pgjdbc | libpq |") == [[jdbc, libpq] for jdbc, (libpq, _, _) in TRANSLATIONS.items()]


def test_every_link_to_code_on_the_page_leads_somewhere() -> None:
    for path in re.findall(r"`(unit_tests/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path

"""The commands through a real sshd, with nothing lost when the tunnel is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cdc.conftest import Followed, fill, make_tables
from integration_tests.inprocess import InProcess
from integration_tests.truth import Truth
from testkit.connector import Connector
from testkit.database import Database
from testkit.protocol import Json, configured_catalog
from testkit.proxy import Proxy
from testkit.roots import Root
from testkit.run import At, Run
from testkit.server import Server
from testkit.sshd import SshServer

pytestmark = pytest.mark.any_server

TABLES = ("metrics", "events", "parts")
DAYS = 6
ROWS = 6000


@pytest.fixture
def load(database: Database) -> Database:
    """Three tables in some chunks, which the reader may read."""
    make_tables(database)
    fill(database, days=DAYS, rows=ROWS)
    database.grant_select(*TABLES)
    return database


@pytest.fixture
def followed(database: Database) -> Followed:
    make_tables(database)
    fill(database)
    return Followed(database, f"slot_{database.name}")


def act(fault: Callable[[], object]) -> Callable[[Run], object]:
    return lambda _run: fault()


def reconnections(logs: list[str]) -> list[str]:
    return [line for line in logs if "lost" in line or "SSH tunnel" in line]


@pytest.mark.parametrize("by", ["tunnel", "password_tunnel"])
def test_check_discover_and_read_go_through_the_tunnel(
    load: Database, ssh_server: SshServer, by: str
) -> None:
    with Proxy(ssh_server.host, ssh_server.port) as proxy:
        through = InProcess(load.config(tunnel_method=getattr(ssh_server, by)(proxy.port)))
        checked, message, _ = through.check()
        catalog = through.discover()
        between = proxy.forwarded
        ended = through.read(configured_catalog(catalog))

        assert proxy.forwarded > between + ROWS  # bytes: the rows came this way
    assert (checked, message) == (True, "")
    assert [stream["name"] for stream in catalog["streams"]] == sorted(TABLES)
    assert ended.failure is None
    for table in TABLES:
        truth = Truth.of(load, table)
        assert truth.parsed(ended.rows(table)) == truth.rows


def test_check_says_why_there_is_no_tunnel(load: Database, ssh_server: SshServer) -> None:
    wrong = ssh_server.password_tunnel(tunnel_user_password="canary-wrong")

    checked, message, logged = InProcess(load.config(tunnel_method=wrong)).check()

    assert not checked
    assert message.startswith("Opening an SSH tunnel through 127.0.0.1 port")
    assert "canary" not in message + "".join(logged)


def test_the_host_key_is_in_the_log_and_no_secret_is(
    load: Database, ssh_server: SshServer, tmp_path: Path
) -> None:
    by_password = Connector(
        load.config(tunnel_method=ssh_server.password_tunnel()), tmp_path / "password"
    ).check()
    by_key = Connector(load.config(tunnel_method=ssh_server.tunnel()), tmp_path / "key").check()

    for ended in (by_password, by_key):
        assert ended.exit_code == 0
        (line,) = (line for line in ended.logs if "host key" in line)
        assert (
            f"The SSH jump server 127.0.0.1 shows the host key ssh-ed25519 {ssh_server.fingerprint}" in line
        )
        printed = b"".join(ended.lines()).decode() + ended.stderr
        assert "canary" not in printed
        assert "PRIVATE KEY" not in printed


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_tunnel_lost_in_mid_snapshot_costs_no_row(
    load: Database, ssh_server: SshServer, fault: str
) -> None:
    with Proxy(ssh_server.host, ssh_server.port) as proxy:
        acts = {("RECORD", at): getattr(proxy, fault) for at in (1, ROWS // 2, ROWS, 2 * ROWS)}

        ended = InProcess(load.config(tunnel_method=ssh_server.tunnel(proxy.port))).read(acts=acts)

        assert proxy.accepted > 2
    assert ended.failure is None
    for table in TABLES:
        truth = Truth.of(load, table)
        assert truth.parsed(ended.rows(table)) == truth.rows


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_tunnel_lost_in_mid_stream_costs_no_change(
    followed: Followed, ssh_server: SshServer, tmp_path: Path, fault: str
) -> None:
    followed.publish(*TABLES)
    with Proxy(ssh_server.host, ssh_server.port) as proxy:
        through: Json = {"tunnel_method": ssh_server.tunnel(proxy.port)}
        breaks = act(getattr(proxy, fault))
        loaded = followed.run(tmp_path, *TABLES, config=through, at=[At("RECORD", 400, breaks)])
        change(followed.database)
        accepted = proxy.accepted
        told = followed.run(
            tmp_path, *TABLES, config=through, at=[At("RECORD", at, breaks) for at in (1, 700, 1500)]
        )

        assert proxy.accepted > accepted + 1
    assert (loaded.exit_code, told.exit_code) == (0, 0)
    followed.mirrors("metrics", "parts")


def change(database: Database) -> None:
    """Changes enough to be in the middle of them, in transactions of a hundred rows."""
    for first in range(0, 2000, 100):
        database.execute(
            "INSERT INTO metrics SELECT '2024-01-01'::timestamptz + i * interval '1 second', 1000 + i %% 7, i,"
            " repeat('x', 2000) FROM generate_series(%s::int, %s::int) i",
            [first, first + 99],
        )
    database.execute("UPDATE parts SET note = 'changed' WHERE id % 2 = 0")
    database.execute("DELETE FROM parts WHERE id % 3 = 0")


def test_a_jump_server_that_is_restarted_is_waited_for(load: Database, ssh_server: SshServer) -> None:
    def restart() -> None:
        ssh_server.stop()
        ssh_server.start()

    ended = InProcess(load.config(tunnel_method=ssh_server.tunnel())).read(acts={("RECORD", ROWS): restart})

    assert ended.failure is None
    for table in TABLES:
        truth = Truth.of(load, table)
        assert truth.parsed(ended.rows(table)) == truth.rows


def test_slices_come_from_the_replica_through_the_same_tunnel(root: Root, ssh_server: SshServer) -> None:
    with Server(root) as primary, primary.database() as database:
        make_tables(database)
        fill(database)
        database.grant_select(*TABLES)
        with primary.standby() as standby:
            standby.caught_up()
            settings: dict[str, Any] = {
                "replica_host": standby.address.host, "replica_port": standby.address.port,
            }  # fmt: skip
            catalog = InProcess(database.config()).catalog()
            logins = ssh_server.log.count("Accepted publickey")
            through = database.config(tunnel_method=ssh_server.tunnel(), timescaledb=settings)
            ended = InProcess(through).read(catalog)

            # none where the tunnel of a test before is still open
            assert ssh_server.log.count("Accepted publickey") - logins in {0, 1}
        assert ended.failure is None
        truth = Truth.of(database, "metrics")
        assert truth.parsed(ended.rows("metrics")) == truth.rows

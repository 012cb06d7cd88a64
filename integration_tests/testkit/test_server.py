"""A server of a test's own: it starts, survives, ends and is set up as its docstrings say."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from testkit.cluster import Cluster
from testkit.connector import REPOSITORY
from testkit.database import Database
from testkit.errors import KitError
from testkit.places import memory
from testkit.roots import Root
from testkit.server import Server

pytestmark = pytest.mark.any_server

ORPHAN = """
import sys, time
from testkit.servers import candidate
with candidate(sys.argv[1]).open() as server:
    print(server._postmaster.keeper.command.pid, server.folder, flush=True)
    time.sleep(60)
"""


def one(server: Cluster, query: str) -> object:
    with server.connect() as connection:
        (found,) = connection.execute(query).fetchone() or (None,)
    return found


def eventually(gone: Path | int) -> bool:
    """Whether a process has ended or a file is gone within five seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not (gone.exists() if isinstance(gone, Path) else psutil.pid_exists(gone)):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("in_memory", [True, False])
def test_committed_rows_survive_a_crash_wherever_they_lie(root: Root, in_memory: bool) -> None:
    with Server(root, in_memory=in_memory) as server, server.database() as database:
        database.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
        database.disconnect()

        server.crash()
        assert not server.running
        server.start()

        assert database.value("SELECT count(*) FROM kept") == 1000
        assert "database system was not properly shut down" in server.log


def test_a_restarted_server_has_its_old_port_and_its_new_settings(root: Root) -> None:
    with Server(root, settings={"max_connections": 20}) as server:
        port = server.address.port

        server.configure(max_connections=30)
        server.restart()

        assert server.address.port == port
        assert one(server, "SHOW max_connections") == "30"


def test_settings_hold_and_fsync_can_be_on(root: Root) -> None:
    with Server(root, fsync=True, settings={"log_line_prefix": "it's "}) as server:
        assert one(server, "SHOW fsync") == "on"
        assert one(server, "SHOW log_line_prefix") == "it's "


def test_a_server_lies_in_memory_where_there_is_room_unless_it_waits_for_the_disk(root: Root) -> None:
    roomy = memory()
    with (
        Server(root) as quick,
        Server(root, fsync=True) as lasting,
        Server(root, in_memory=False) as measured,
    ):
        assert quick.folder.parent == (roomy or root.path / "srv")
        assert {lasting.folder.parent, measured.folder.parent} == {root.path / "srv"}
        for server in (quick, lasting, measured):
            assert one(server, "SHOW data_directory") == f"{server.place.inside}/data"


def test_a_setting_that_does_not_exist_is_told_with_the_log(root: Root) -> None:
    with (
        pytest.raises(KitError, match="unrecognized configuration parameter"),
        Server(root, settings={"nonsense": 1}),
    ):
        pass


def test_servers_of_one_root_share_their_identity_unless_it_is_to_be_their_own(root: Root) -> None:
    query = "SELECT system_identifier FROM pg_control_system()"
    with Server(root) as first, Server(root) as second:
        shared = {one(first, query), one(second, query)}
    with Server(root, own_identity=True) as third, third.database() as database:
        own = one(third, query)
        extensions = database.rows("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")

    assert len(shared) == 1
    assert own not in shared
    assert extensions == [(1,)]


def test_a_standby_follows_and_can_be_promoted(root: Root) -> None:
    with Server(root) as primary, primary.database() as database:
        database.execute("CREATE TABLE copied AS SELECT generate_series(1, 10) AS number")
        with primary.standby() as standby:
            standby.caught_up()
            copied = psycopg.connect(standby.address.conninfo(database.name)).execute(
                "SELECT count(*) FROM copied"
            )
            assert copied.fetchone() == (10,)
            assert one(standby, "SELECT pg_is_in_recovery()") is True

            standby.promote()

            assert one(standby, "SELECT pg_is_in_recovery()") is False
        assert one(primary, "SELECT count(*) FROM pg_replication_slots") == 0


def test_transaction_ids_can_be_set_forward_to_where_they_begin_anew(root: Root) -> None:
    wrap = 2**32
    with Server(root, settings={"autovacuum": "off"}) as server:
        server.wind_to(wrap - 40)
        with server.database() as database:
            database.execute("CREATE TABLE kept (xid xid8)")
            for _ in range(60):
                database.execute("INSERT INTO kept VALUES (pg_current_xact_id())")
            xids = [int(xid) for (xid,) in database.rows("SELECT xid::text FROM kept ORDER BY xid")]

    assert len(xids) == 60
    assert xids[0] < wrap < xids[-1]


def test_a_single_backend_can_be_killed(root: Root) -> None:
    with Server(root) as server, server.connect() as victim:
        server.signal_backend(victim.info.backend_pid, signal.SIGKILL)

        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT 1")


def test_lines_of_the_caller_decide_who_may_connect(root: Root) -> None:
    with (
        Server(root, hba=["host all /^.*_reader$ 127.0.0.1/32 reject"]) as server,
        server.database() as database,
    ):
        with pytest.raises(psycopg.OperationalError, match="rejects connection"):
            database.connect("reader")

        assert database.value("SELECT 1") == 1


def test_tls_is_spoken_with_the_files_of_the_caller(root: Root, tmp_path: Path) -> None:
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files], check=True)

    tls = {"ssl_cert_file": tmp_path / "cert", "ssl_key_file": tmp_path / "key"}
    with Server(root, tls=tls) as server:
        verified = {"sslmode": "verify-full", "sslrootcert": str(tmp_path / "cert")}
        with server.connect(**verified) as connection:
            found = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()

    assert found == (True,)


def test_nothing_remains_of_a_server_after_its_block(root: Root) -> None:
    with Server(root) as server:
        assert server._postmaster is not None
        postmaster, folder = server._postmaster.keeper.command.pid, server.folder

    assert eventually(postmaster)
    assert eventually(folder)


def test_a_server_ends_when_its_test_is_killed_and_its_folder_goes_with_the_next(root: Root) -> None:
    command = [sys.executable, "-c", ORPHAN, root.name]
    test = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True)
    assert test.stdout is not None
    pid, folder = test.stdout.readline().split()
    assert psutil.pid_exists(int(pid))

    test.kill()
    test.wait()

    assert eventually(int(pid))
    with Server(root):
        assert not Path(folder).exists()


def test_a_server_ends_when_its_keeper_is_killed(root: Root) -> None:
    with Server(root) as server:
        assert server._postmaster is not None
        postmaster = server._postmaster.keeper.command
        keeper = postmaster.parent()
        assert keeper is not None

        keeper.kill()

        assert eventually(postmaster.pid)


def test_databases_side_by_side_do_not_see_each_other(server: Cluster, database: Database) -> None:
    database.execute("CREATE TABLE mine ()")

    with server.database() as other:
        assert other.rows("SELECT 1 FROM pg_tables WHERE tablename = 'mine'") == []

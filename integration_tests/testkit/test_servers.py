"""Which servers are offered, and that a server somebody else runs serves as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit import servers
from testkit.cluster import Cluster
from testkit.errors import KitError, NoServerError
from testkit.external import URL_VARIABLE, at_address, at_url
from testkit.roots import CACHE_VARIABLE, Edition, Root
from testkit.server import Server


def test_a_server_named_by_its_url_is_the_only_one_offered(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(root) as running:
        address = running.address
        url = f"postgresql://postgres:{address.password}@{address.host}:{address.port}/postgres"
        monkeypatch.setenv(URL_VARIABLE, url)

        (offered,) = servers.candidates()
        with offered.open() as found, found.database() as database:
            assert database.rows("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'") == [(1,)]
            assert (found.postgres, found.timescaledb) == (root.postgres, root.timescaledb)
            assert found.edition is root.edition


def test_nothing_of_ours_remains_on_a_server_that_somebody_else_runs(root: Root) -> None:
    everything = "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles ORDER BY 1"
    with Server(root) as running, running.connect() as connection:
        before = connection.execute(everything).fetchall()

        with at_address("url", running.address) as found, found.database():
            pass

        assert connection.execute(everything).fetchall() == before


def test_a_server_that_does_not_answer_is_told_in_one_sentence() -> None:
    nowhere = at_url("postgresql://postgres:canary-password@127.0.0.1:9/postgres")

    with (
        pytest.raises(NoServerError, match=r"127\.0\.0\.1:9\) does not answer") as raised,
        at_address("url", nowhere),
    ):
        pass
    assert "canary" not in str(raised.value)


def test_a_bad_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(KitError) as raised:
        at_url("postgresql://user:canary-password@host:port:what/")

    assert "canary" not in str(raised.value)


def test_a_server_that_is_not_offered_is_answered_with_those_that_are() -> None:
    with pytest.raises(NoServerError, match="there are: "):
        servers.candidate("nonsense")


def test_demo_and_benchmarks_get_the_server_they_name(root: Root) -> None:
    with servers.server(root.label) as running:
        assert running.label == root.label


def test_without_a_community_server_the_error_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(servers, "docker_answers", lambda: False)
    monkeypatch.delenv(URL_VARIABLE, raising=False)

    with pytest.raises(NoServerError, match="Community"), servers.server(community=True):
        pass


@pytest.mark.community
def test_a_test_marked_community_runs_on_nothing_else(server: Cluster) -> None:
    assert server.edition is Edition.COMMUNITY

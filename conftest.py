"""The servers as fixtures: every test that asks for one runs on all that this machine offers.

Servers start when the first test needs them and once per session; databases are fresh for every test.
`--server NAME` chooses. What does not depend on the server's version, marked `any_server`, runs on the first alone. Where
there is no Community edition server, the tests marked `community` are skipped and say so. No test is judged by the time
it takes, so hypothesis sets no deadline.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import settings

from testkit import servers
from testkit.cluster import Cluster
from testkit.database import Database
from testkit.errors import KitError, NoServerError
from testkit.roots import Root
from testkit.servers import NO_COMMUNITY, Candidate
from testkit.sshd import SshRoot, SshServer, prepare

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


gc.disable()
"""Until all tests are there; see `pytest_collection_finish`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--server`."""
    parser.addoption(
        "--server",
        action="append",
        metavar="NAME",
        help="only on this server (see `python -m testkit list`); repeatable",
    )
    parser.addoption(
        "--every-server",
        action="store_true",
        help="also the tests marked any_server on all servers, not on the first alone",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let `airbyte-cdk connector test` run: it writes a test into `.tmp/`, no name that pytest 7 can import otherwise."""
    if any(Path(argument).parts[-3:-2] == (".tmp",) for argument in config.args):
        config.option.importmode = "prepend"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two workers for each core: a test waits for its server, or for a fault to be noticed, half of the time."""
    return (os.cpu_count() or 1) * 2


@lru_cache(maxsize=1)
def offered(chosen: tuple[str, ...]) -> list[Candidate]:
    """The servers to test on, asked for once in a session."""
    try:
        return [servers.candidate(name) for name in chosen] if chosen else servers.candidates()
    except NoServerError as reason:
        raise pytest.UsageError(str(reason)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each server that it can run on; skip it, with the reason, where there is none."""
    for fixture in {"candidate", "community_candidate"}.intersection(metafunc.fixturenames):
        found = offered(tuple(metafunc.config.getoption("--server") or ()))
        marked = metafunc.definition.get_closest_marker("community") is not None
        if marked or fixture == "community_candidate":
            found = [one for one in found if one.community or one.edition is None]
        if metafunc.definition.get_closest_marker("any_server") and not metafunc.config.getoption(
            "--every-server"
        ):
            found = found[:1]
        parameters = [pytest.param(one, id=one.label) for one in found]
        nothing = pytest.param(None, id="community", marks=pytest.mark.skip(reason=NO_COMMUNITY))
        metafunc.parametrize(fixture, parameters or [nothing], scope="session", indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module on one server together where workers share the work (pytest-xdist).

    So a worker makes what a module shares once, and changes from one server to the next once. It is xdist's own hook that
    looks for these marks, and it would come first.
    """
    groups = {item: group_of(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    slow = {group for item, group in groups.items() if item.get_closest_marker("slow")}
    # slow ones first, so that no worker is left alone with one
    items.sort(key=lambda item: groups[item] not in slow)


def pytest_collection_finish() -> None:
    """Some thousand tests and all that they import stay to the end: the collector starts now, and leaves them alone."""
    gc.freeze()
    gc.enable()


def group_of(item: pytest.Item) -> str:
    """The module of a test, and the server that it runs on."""
    parameters = (
        item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    )
    labels = [one.label for one in parameters.values() if isinstance(one, Candidate)]
    return " ".join([item.nodeid.partition("::")[0], *labels])


@pytest.fixture(scope="session")
def candidate(request: pytest.FixtureRequest) -> Candidate:
    """The server to run on; a fixture, so that pytest runs all tests of one server before those of the next."""
    chosen: Candidate = request.param
    return chosen


@pytest.fixture(scope="session")
def community_candidate(request: pytest.FixtureRequest) -> Candidate:
    """The Community edition server to run on."""
    chosen: Candidate = request.param
    return chosen


def opened(one: Candidate) -> Iterator[Cluster]:
    """The running server of a session; a server that cannot be had fails its tests with one sentence."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(one.open())
        except NoServerError as reason:
            pytest.fail(str(reason), pytrace=False)
        yield running


@pytest.fixture(scope="session")
def server(candidate: Candidate) -> Iterator[Cluster]:
    """A running server, one after the other of those offered; shared by all tests of the session."""
    yield from opened(candidate)


@pytest.fixture(scope="session")
def community_server(community_candidate: Candidate) -> Iterator[Cluster]:
    """A running Community edition server."""
    yield from opened(community_candidate)


@pytest.fixture(autouse=True)
def _only_on_community_servers(request: pytest.FixtureRequest) -> None:
    """What edition a server named by its URL is, only the running server can tell."""
    asked = {"server", "community_server"}.intersection(request.fixturenames)
    marked = request.node.get_closest_marker("community") is not None
    for fixture in asked if marked else asked - {"server"}:
        if not request.getfixturevalue(fixture).community:
            pytest.skip(NO_COMMUNITY)


@pytest.fixture
def root(candidate: Candidate) -> Root:
    """Where to start servers of a test's own from: to crash them, or with other settings, or with TLS."""
    if candidate.root is None:
        pytest.skip(
            f"the server {candidate.label} is not the kit's own: it cannot be crashed or set up otherwise"
        )
    return candidate.root()


@pytest.fixture
def database(server: Cluster) -> Iterator[Database]:
    """A fresh database with TimescaleDB."""
    with server.database() as fresh:
        yield fresh


@pytest.fixture
def community_database(community_server: Cluster) -> Iterator[Database]:
    """A fresh database on a Community edition server."""
    with community_server.database() as fresh:
        yield fresh


@pytest.fixture
def plain_database(server: Cluster) -> Iterator[Database]:
    """A fresh database without TimescaleDB."""
    with server.database(extension=False) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def ssh_root() -> SshRoot:
    """Where to start SSH servers from."""
    try:
        return prepare()
    except KitError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def ssh_server(ssh_root: SshRoot) -> Iterator[SshServer]:
    """A running SSH server, shared by all tests of the session."""
    with SshServer(ssh_root) as running:
        yield running

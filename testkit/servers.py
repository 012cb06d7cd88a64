"""Which servers this machine can have, in order of preference.

1. The server that TIMESCALEDB_TEST_URL names, and then no other.
2. Containers, where a Docker engine answers.
3. Debian's packages, prepared on first use; with Docker only where the machine has Debian's tools.
4. In addition to 2 and 3: every root put into the cache folder by hand, such as a Community edition build.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from testkit import debian
from testkit.cluster import Cluster
from testkit.errors import NoServerError
from testkit.external import URL_VARIABLE, at_address, at_url, docker_answers, in_container
from testkit.roots import Edition, Root, roots
from testkit.server import Server

IMAGES = ("timescale/timescaledb:latest-pg17", "timescale/timescaledb:latest-pg18")
IMAGES_VARIABLE = "SOURCE_TIMESCALEDB_IMAGES"
"""The environment variable that names other images than these, with commas between them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that can be had: `open` starts it for a `with` block, `root` prepares the folder it runs from.

    The edition is None where only the running server can tell. `root` is None where the server is not the
    kit's own.
    """

    name: str
    label: str
    edition: Edition | None
    open: Callable[[], AbstractContextManager[Cluster]]
    root: Callable[[], Root] | None = None

    @property
    def community(self) -> bool:
        """Whether it is known to be the Community edition."""
        return self.edition is Edition.COMMUNITY


def candidates() -> list[Candidate]:
    """All servers that this machine offers; nothing is downloaded or started by asking."""
    if url := os.environ.get(URL_VARIABLE):
        return [Candidate("url", "url", None, lambda: at_address("url", at_url(url)))]
    found = {root.name: root for root in roots()}
    prepared = [found.pop(release.name, None) for release in debian.RELEASES]
    own = [of_release(release, root) for release, root in zip(debian.RELEASES, prepared, strict=True)]
    placed = [of_root(root) for root in found.values()]
    if not docker_answers():
        return [*own, *placed]
    # A container cannot be crashed or given settings, so tests of faults want a server of the kit's own besides.
    possible = debian.possible() or all(prepared)
    return [*map(of_image, images()), *(own if possible else ()), *placed]


def images() -> list[str]:
    """The container images to take."""
    named = os.environ.get(IMAGES_VARIABLE, "")
    return [image.strip() for image in named.split(",") if image.strip()] or list(IMAGES)


def of_root(root: Root) -> Candidate:
    """A root that is there."""
    return Candidate(root.name, root.label, root.edition, lambda: Server(root), lambda: root)


def of_release(release: debian.Release, root: Root | None) -> Candidate:
    """A Debian release, prepared already or not."""

    def prepared() -> Root:
        return root or debian.prepare(release)

    name = root.label if root else release.label
    return Candidate(release.name, name, Edition.APACHE, lambda: Server(prepared()), prepared)


def of_image(image: str) -> Candidate:
    """A container image; those of the makers are the Community edition."""
    return Candidate(image.rpartition(":")[2], image, Edition.COMMUNITY, lambda: in_container(image))


def candidate(name: str) -> Candidate:
    """The server of this name or label.

    Raises:
        NoServerError: there is none; the message lists those there are.
    """
    offered = candidates()
    for one in offered:
        if name in {one.name, one.label}:
            return one
    names = ", ".join(f"{one.name} ({one.label})" for one in offered)
    raise NoServerError(f"There is no server called {name}; there are: {names}.")


@contextmanager
def server(name: str | None = None, *, community: bool = False) -> Iterator[Cluster]:
    """Start the named server, or the first of the wanted edition that can be had; for demo and benchmarks.

    Raises:
        NoServerError: none can be had; the message is fit to be printed.
    """
    offered = [candidate(name)] if name is not None else candidates()
    wanted = [one for one in offered if one.community or not community]
    reasons = [NO_COMMUNITY] if community else []
    with ExitStack() as stack:
        for one in wanted:
            try:
                running = stack.enter_context(one.open())
            except NoServerError as reason:  # noqa: PERF203 - each can fail for its own reason
                reasons.append(str(reason))
            else:
                yield running
                return
    raise NoServerError(reasons[-1])


NO_COMMUNITY = (
    "There is no Community edition server: start Docker, "
    "or put a server root with one into the servers folder of the cache."
)

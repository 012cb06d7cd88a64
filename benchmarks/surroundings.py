"""Where and with what was measured: without it a number means little."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import psycopg.pq

from testkit.cluster import Cluster
from testkit.connector import REPOSITORY


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Versions, machine and date."""

    date: str
    command: str
    connector: str
    server: str
    """Empty where none was asked."""
    python: str
    libraries: str
    machine: str
    load: str
    """The load average when it began."""


def surroundings(server: Cluster | None, command: str, now: datetime) -> Surroundings:
    """Ask the server, if one takes part, the interpreter and the system."""
    libpq = psycopg.pq.version()
    shared = "; server and clients share it and talk without TLS" if server else ""
    return Surroundings(
        date=f"{now:%Y-%m-%d %H:%M} UTC",
        command=command,
        connector=f"{version('source-timescaledb')}{_revision()}",
        server=_versions(server) if server else "",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries=f"airbyte-cdk {version('airbyte-cdk')}, psycopg {version('psycopg')} "
        f"({psycopg.pq.__impl__}), libpq {libpq // 10000}.{libpq % 10000}",
        machine=f"{os.cpu_count()} cores ({_processor()}), {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.release()}{shared}",
        load=" / ".join(f"{load:.2f}" for load in os.getloadavg()),
    )


def _versions(server: Cluster) -> str:
    with server.connect() as connection:
        (postgres,) = connection.execute("SHOW server_version").fetchone() or ("",)
    return f"PostgreSQL {postgres}, TimescaleDB {server.timescaledb} ({server.edition.value} edition)"


def _processor() -> str:
    """What the system calls its processors; the architecture where it has no better name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] != "unknown" else platform.machine()


def _revision() -> str:
    """The commit of this checkout, where git can tell."""
    words = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty=, modified"]
    try:
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" ({said})"

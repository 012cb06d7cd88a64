"""Watch who has to wait for a program's locks, itself or behind somebody who does.

A lock that conflicts with nobody's work stops everybody as soon as one session asks for a stronger one: it waits, and all
that come after it wait for it, even with locks that the program's would not have hindered. `pg_blocking_pids` names both
those who hold and those who stand before one in the queue, so whoever waits for us is found by going back along it. Who
waits for somebody that is at work is not: that is not our doing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from testkit.observer import Observer

LOOK = """
WITH RECURSIVE ours AS MATERIALIZED (
    SELECT array_agg(pid) AS pids FROM pg_stat_activity WHERE starts_with(application_name, %(prefix)s)
), waiting AS MATERIALIZED (
    SELECT DISTINCT l.pid, pg_blocking_pids(l.pid) AS blockers FROM pg_locks l, ours
    WHERE NOT l.granted AND l.pid <> ALL (coalesce(ours.pids, '{}'))
), delayed AS (
    SELECT w.pid FROM waiting w, ours WHERE w.blockers && ours.pids
    UNION
    SELECT w.pid FROM waiting w JOIN delayed d ON d.pid = ANY (w.blockers)
)
SELECT a.pid, a.application_name::text, extract(epoch FROM clock_timestamp())::float8
FROM delayed d JOIN pg_stat_activity a USING (pid)
"""


@dataclass(slots=True)
class Delay:
    """How long sessions of one application name waited, by the server's clock; each wait is short of at most one look."""

    longest_seconds: float = 0.0
    """The longest wait without a break."""
    total_seconds: float = 0.0
    waits: int = 0


class Bystanders(Observer):
    """An observer that looks at those who wait for the program instead; `delays` is by their application names."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.delays: dict[str, Delay] = {}
        self._since: dict[int, float] = {}
        self._counted: dict[int, float] = {}

    def delay(self, application_name: str) -> Delay:
        """What sessions of that name had to wait."""
        return self.delays.get(application_name, Delay())

    def _look(self) -> None:
        found = self._connection.execute(LOOK, {"prefix": self._prefix}).fetchall()
        waiting = {pid for pid, _, _ in found}
        for pid in self._since.keys() - waiting:
            del self._since[pid], self._counted[pid]
        for pid, name, now in found:
            delay = self.delays.setdefault(name, Delay())
            if pid not in self._since:
                self._since[pid] = self._counted[pid] = now
                delay.waits += 1
            delay.total_seconds += now - self._counted[pid]
            self._counted[pid] = now
            delay.longest_seconds = max(delay.longest_seconds, now - self._since[pid])
        self.observation.looks += 1

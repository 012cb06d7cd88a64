"""Part one: the same tables read by COPY, by the connector with one and two readers, and by the stock source, in turns.

A round is one run of each, so whatever the machine does besides falls on all of them alike. The rounds before the first
count for nothing: they warm the caches.
"""

from __future__ import annotations

from benchmarks import tables
from benchmarks.contenders import catalog_of, connector, psql, stock
from benchmarks.costs import Contest
from benchmarks.measuring import Bench, Tell
from benchmarks.sizes import Sizes
from testkit.server import Server


def contests(server: Server, bench: Bench, sizes: Sizes, tell: Tell) -> list[Contest]:
    """Measure all four kinds of rows. Raises KitError when somebody does not read what it should."""
    shapes = (
        tables.ten_columns(sizes.rows),
        tables.many_columns(sizes.wide_rows),
        tables.arrays(sizes.array_rows),
        tables.megabyte_texts(sizes.text_rows),
    )
    return [_contest(server, bench, table, sizes, tell) for table in shapes]


def _contest(server: Server, bench: Bench, table: tables.Table, sizes: Sizes, tell: Tell) -> Contest:
    with server.database() as database:
        tell(f"{table.title}: loading {table.rows:,} rows")
        table.make(database)
        catalog = catalog_of(bench, database, table.name)
        floor = psql(server, database, table.name, table.rows)
        others = [
            connector(database, bench.workdir, catalog, table.rows, readers=2),
            connector(database, bench.workdir, catalog, table.rows, readers=1),
            stock(database, bench.workdir, catalog, table.name, min(table.rows, sizes.stock_rows)),
        ]
        contest = Contest(table.title, table.what, floor.name)
        for number in range(1 - sizes.warm_ups, sizes.rounds + 1):
            runs = {one.name: one.run(bench) for one in [floor, *others]}
            walls = ", ".join(f"{name} {run.cost.wall:.2f} s" for name, run in runs.items())
            tell(f"{table.title}: round {number}: {walls}")
            if number > 0:
                contest.add(runs)
        return contest

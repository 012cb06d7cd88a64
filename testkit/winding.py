"""A server's transaction ids, set forward: what takes years of writing is then a moment away.

Ids are 32 bits in a circle, of which half is past and half is future. Rows that a server has written keep their ids, so
all of them have to be frozen first, in every database: a frozen row is past whatever comes. Then `pg_resetwal` changes
the counter. The file with the fates of the ids around the new one is missing, because none of them was ever given out;
an empty one says that they all came to nothing.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from testkit.cluster import Address
from testkit.datadir import give
from testkit.keeper import run
from testkit.places import Place
from testkit.roots import Root

FATES_BYTES: Final = 32 * 8192
FATES: Final = FATES_BYTES * 4
"""How many ids a file of `pg_xact` knows, two bits each."""


def freeze(address: Address) -> None:
    """Freeze all rows of all databases of a running server, those without connections among them."""
    with psycopg.connect(address.conninfo("postgres"), autocommit=True) as connection:
        databases = connection.execute("SELECT datname, datallowconn FROM pg_database").fetchall()
        for name, open_ in databases:
            _allow(connection, name, allowed=True)
            with psycopg.connect(address.conninfo(name), autocommit=True) as inside:
                inside.execute("VACUUM (FREEZE)")
            _allow(connection, name, allowed=open_)
        connection.execute("VACUUM (FREEZE) pg_database")


def _allow(connection: psycopg.Connection, database: str, *, allowed: bool) -> None:
    statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    connection.execute(statement.format(sql.Identifier(database), sql.Literal(allowed)))


def set_next_transaction(root: Root, place: Place, xid: int) -> None:
    """Let a stopped server go on with a transaction id of 32 bits; all its rows are frozen.

    Raises:
        KitError: it failed; the message ends with what was said.
    """
    fates = place.path / f"data/pg_xact/{xid // FATES:04X}"
    if not fates.exists():
        fates.write_bytes(bytes(FATES_BYTES))
        give(fates)
    run(root, "pg_resetwal", f"--pgdata={place.inside}/data", f"--next-transaction-id={xid}", place=place)

"""Hypertables with rows in tiered storage, as OSM makes them: a foreign table is attached as a chunk.

Behind the foreign table is a table of the same database, reached by postgres_fdw as the owner. The calls are those that
the OSM extension makes (sql/chunk.sql and sql/osm_api.sql of TimescaleDB), in both editions.
"""

from __future__ import annotations

from psycopg import sql

from testkit.database import Database

HOUR = "interval '1 hour'"


def make_tiering(database: Database) -> None:
    """Let the database be its own storage, for the owner and the reader."""
    superuser, address = database.as_superuser(), database.cluster.address
    superuser.execute("CREATE EXTENSION postgres_fdw")
    superuser.execute(
        sql.SQL(
            "CREATE SERVER storage FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host {}, port {}, dbname {})"
        ).format(sql.Literal(address.host), sql.Literal(str(address.port)), sql.Literal(database.name))
    )
    for role in (database.owner, database.reader):
        mapping = "CREATE USER MAPPING FOR {} SERVER storage OPTIONS (user {}, password {})"
        superuser.execute(
            sql.SQL(mapping).format(
                sql.Identifier(role),
                sql.Literal(database.owner),
                sql.Literal(database.passwords["owner"]),
            )
        )
    superuser.execute(
        sql.SQL("GRANT USAGE ON FOREIGN SERVER storage TO {}").format(sql.Identifier(database.owner))
    )


def tier(database: Database, table: str) -> None:
    """Attach a tiered chunk, `<table>_tier`, to a hypertable; what is behind it is `<table>_storage`, empty."""
    database.execute(f"CREATE TABLE {table}_storage (LIKE {table})".encode())
    columns = database.rows(
        "SELECT string_agg(format('%%I %%s', attname, format_type(atttypid, atttypmod)"
        " || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END), ', ' ORDER BY attnum)"
        " FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        [table],
    )[0][0]
    database.execute(
        f"CREATE FOREIGN TABLE {table}_tier ({columns}) SERVER storage"
        f" OPTIONS (schema_name 'public', table_name '{table}_storage')".encode()
    )
    database.execute(
        f"SELECT _timescaledb_functions.attach_osm_table_chunk('{table}', '{table}_tier')".encode()
    )


def move(database: Database, table: str, chunk: str) -> None:
    """Move a chunk's rows into tiered storage, as a tiering job does: all at once."""
    with database.connect() as session:
        session.execute(f"INSERT INTO {table}_storage SELECT * FROM {chunk}".encode())
        session.execute(f"DROP TABLE {chunk}".encode())


def bound(database: Database, table: str, start: str, end: str) -> None:
    """Tell the catalog that all that is in tiered storage lies in one range of time, apart from the chunks'."""
    database.execute(
        f"SELECT _timescaledb_functions.hypertable_osm_range_update('{table}', '{start}'::timestamptz,"
        f" '{end}'::timestamptz)".encode()
    )

"""The role that the tests run as has what the README grants, what the doctor's script grants, and no more.

Nearly every test runs the connector as the kit's reader (`testkit.database`); so what they show holds for a role with
these rights. Those that follow changes run it as the tables' owner, which the README asks for where the connector is to
add chunks to a publication; `unit_tests/test_roles.py` keeps the list. Nobody is a superuser.

Rights are compared as sets of facts: the role's attributes, its memberships, what it owns, and each privilege on each
object of the database and of the server, whatever kind the object is of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from psycopg import sql

from integration_tests.cdc.conftest import make_tables
from integration_tests.health.consulting import doctor, follow_script
from testkit.connector import REPOSITORY
from testkit.database import Database

pytestmark = pytest.mark.any_server

README: Final = REPOSITORY / "README.md"
BLOCK: Final = re.compile(r"The role needs no more than this:\n\n```sql\n(.*?)```", re.DOTALL)

RIGHTS: Final = """
WITH role AS (SELECT * FROM pg_roles WHERE rolname = %(role)s)
SELECT 'attribute', unnest(array_remove(ARRAY[
         CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolinherit THEN 'INHERIT' END,
         CASE WHEN rolcreaterole THEN 'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
         CASE WHEN rolcanlogin THEN 'LOGIN' END, CASE WHEN rolreplication THEN 'REPLICATION' END,
         CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL)), '' FROM role
UNION ALL
SELECT 'member of', roleid::regrole::text, '' FROM pg_auth_members JOIN role ON member = role.oid
UNION ALL
SELECT 'owner of', pg_describe_object(classid, objid, objsubid), ''
  FROM pg_shdepend JOIN role ON refobjid = role.oid AND refclassid = 'pg_authid'::regclass
 WHERE deptype = 'o' AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
UNION ALL
SELECT 'privilege', object, privilege_type || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
  FROM role, (
         SELECT 'database ' || datname, datacl FROM pg_database
   UNION ALL SELECT 'schema ' || nspname, nspacl FROM pg_namespace
   UNION ALL SELECT 'relation ' || oid::regclass::text, relacl FROM pg_class
   UNION ALL SELECT 'column ' || attrelid::regclass || '.' || attname, attacl FROM pg_attribute
   UNION ALL SELECT 'function ' || oid::regprocedure, proacl FROM pg_proc
   UNION ALL SELECT 'type ' || oid::regtype, typacl FROM pg_type
   UNION ALL SELECT 'language ' || lanname, lanacl FROM pg_language
   UNION ALL SELECT 'tablespace ' || spcname, spcacl FROM pg_tablespace
   UNION ALL SELECT 'wrapper ' || fdwname, fdwacl FROM pg_foreign_data_wrapper
   UNION ALL SELECT 'server ' || srvname, srvacl FROM pg_foreign_server
   UNION ALL SELECT 'large object ' || oid, lomacl FROM pg_largeobject_metadata
   UNION ALL SELECT 'parameter ' || parname, paracl FROM pg_parameter_acl
   UNION ALL SELECT 'default ' || oid, defaclacl FROM pg_default_acl
       ) AS objects (object, acl), aclexplode(acl) WHERE grantee = role.oid
"""
ATTRIBUTES: Final = {("attribute", "LOGIN", ""), ("attribute", "INHERIT", "")}
"""INHERIT is what a role has that nobody says anything of, and it inherits nothing without memberships."""

Right = tuple[str, str, str]


def rights_of(database: Database, role: str) -> set[Right]:
    found = database.as_superuser().execute(RIGHTS.encode(), {"role": role}).fetchall()
    assert found, role
    return set(found)


def expected(database: Database, *tables: str) -> set[Right]:
    """What the README says, written out once more."""
    return {
        *ATTRIBUTES,
        ("privilege", f"database {database.name}", "CONNECT"),
        ("privilege", "schema public", "USAGE"),
        *(("privilege", f"relation {table}", "SELECT") for table in tables),
    }


@pytest.fixture
def tables(database: Database) -> Database:
    """Two hypertables without chunks and a plain table."""
    make_tables(database)
    return database


@contextmanager
def role(database: Database, name: str) -> Iterator[str]:
    """A role's name; the role that somebody makes of it is dropped in the end."""
    try:
        yield name
    finally:
        superuser, identifier = database.as_superuser(), sql.Identifier(name)
        superuser.execute(sql.SQL("DROP OWNED BY {}").format(identifier))
        superuser.execute(sql.SQL("DROP ROLE {}").format(identifier))


def test_the_readers_rights_are_those_of_the_readme_and_no_more(tables: Database) -> None:
    tables.grant_select("metrics", "events", "parts")

    assert rights_of(tables, tables.reader) == expected(tables, "metrics", "events", "parts")


def test_what_the_readme_says_makes_a_role_like_it(tables: Database) -> None:
    tables.grant_select("metrics", "events", "parts")
    block = BLOCK.search(README.read_text())
    assert block is not None

    with role(tables, f"{tables.name}_readme") as name:
        said = block[1].replace("ON DATABASE metrics", f"ON DATABASE {tables.name}")
        tables.as_superuser().execute(re.sub(r"\bairbyte\b", name, said).encode())

        assert rights_of(tables, name) == rights_of(tables, tables.reader)


def test_the_doctors_script_makes_a_role_like_it(tables: Database, tmp_path: Path) -> None:
    tables.grant_select("metrics", "events", "parts")

    with role(tables, f"{tables.name}_doctor") as name:
        config = tables.config(username=name)
        follow_script(tables, doctor(config, tmp_path, "--fix-sql").said)

        assert rights_of(tables, name) == rights_of(tables, tables.reader)


def test_for_changes_the_doctors_script_and_the_kit_add_the_same_two_rights(
    tables: Database, tmp_path: Path
) -> None:
    tables.grant_select("metrics", "events", "parts")
    tables.grant_replication()
    more = {("attribute", "REPLICATION", ""), ("privilege", f"database {tables.name}", "TEMPORARY")}
    method = {"method": "CDC", "replication_slot": f"slot_{tables.name}", "publication": "changes"}

    with role(tables, f"{tables.name}_doctor") as name:
        config = tables.config(username=name, replication_method=method)
        follow_script(tables, doctor(config, tmp_path, "--fix-sql").said)

        assert rights_of(tables, name) == rights_of(tables, tables.reader)
    assert rights_of(tables, tables.reader) == expected(tables, "metrics", "events", "parts") | more


def test_the_owner_owns_and_replicates_and_may_do_nothing_else(tables: Database) -> None:
    rights = rights_of(tables, tables.owner)

    attributes = {(kind, what) for kind, what, _ in rights if kind in ("attribute", "member of")}
    assert attributes == {("attribute", "LOGIN"), ("attribute", "INHERIT"), ("attribute", "REPLICATION")}
    owned = {what for kind, what, _ in rights if kind == "owner of"}
    assert {f"database {tables.name}", "table metrics", "table events", "table parts"} <= owned


def test_a_right_too_many_is_seen(tables: Database) -> None:
    """Of each kind of catalog one."""
    reader = sql.Identifier(tables.reader)
    for statement in (
        "ALTER ROLE {} BYPASSRLS",
        "GRANT pg_read_all_data TO {}",
        "GRANT SELECT (id) ON parts TO {}",
        "GRANT INSERT ON metrics TO {}",
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {}",
        "GRANT CREATE ON SCHEMA public TO {}",
    ):
        before = rights_of(tables, tables.reader)
        tables.as_superuser().execute(sql.SQL(statement).format(reader))

        assert len(rights_of(tables, tables.reader) - before) == 1, statement

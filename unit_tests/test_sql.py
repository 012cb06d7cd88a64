"""No SQL is made from text: what a server is given is a literal, or composed of literals by `psycopg.sql`.

The sources are read as syntax trees. Wherever a statement leaves (`execute`, `send_query`, …), wherever a text becomes
SQL (`sql.SQL`), and wherever a parameter is declared a `LiteralString`, the expression is followed: through local names,
constants of this module or another, parameters that are declared to be composed, functions that return what is fine.
Literals are fine, whole numbers, and text put together of these alone. Whatever else there is, a text from elsewhere in
an f-string, in `%`, `+`, `.format`, by itself, is found; so is what this test does not understand. The exceptions are
listed with their reasons, and each must still be needed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parent.parent / "source_timescaledb"
SENDING: Final = {"execute": 0, "executemany": 0, "executescript": 0, "copy": 0, "send_query": 0, "stream": 1}
"""Methods and functions that take a statement, and at which place."""
COMPOSED: Final = {f"sql.{kind}" for kind in ("SQL", "Composable", "Composed", "Identifier", "Literal")}
KEEPING: Final = {"encode", "as_string", "as_bytes"}
"""Methods whose result is as safe as what they are called on."""

EXCEPTIONS: Final[Mapping[str, str]] = {
    "airbyte.ground.Ground._beat: query.encode()": "heartbeat_action_query is SQL that the user wrote to be run",
    "cdc.database._rows_of: ';'.join(statements).encode()": "one message of statements, each composed (`_statement`)",
    "health.compression._setting: name": "names of settings that cdc.compressing asks for by literals",
    "postgres.publication._add: _addition(publication, tables).text.encode()": "a Statement is composed; its text is "
    "what the log tells, so both are the same",
    "postgres.replication.ReplicationStream._start: self._command": "START_REPLICATION takes no parameters: "
    "`start_command` quotes, and its test says how",
    "postgres.streaming.stream: message": "passes on what it is given, and its callers are judged",
    "snapshot.slice_reader.SliceReader._answers: message": "one message of statements, each composed (`snapshot.query`)",
    "types.definition.filled: text": "parts of the templates of types/, which are literals",
    "types.quoting.constant: f\"E'{escaped}'\" if '\\\\' in escaped else f\"'{escaped}'\"": "this is what quotes",
    "types.quoting.identifier: 'U&' + quoted.as_string(None).replace('\\\\', '\\\\\\\\').replace('%', '\\\\0025')": "too",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A source: its tree, what its names stand for, and who encloses whom."""

    name: str
    tree: ast.Module

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        return dict(_assigned(self.tree.body))

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """The module and the name that an imported name comes from."""
        return {
            name.asname or name.name: (str(node.module), name.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for name in node.names
        }


def _assigned(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for node in body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value


class House:
    """All sources together."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.modules = {name: Module(name, ast.parse(text)) for name, text in sources.items()}
        self._returns: dict[str, set[str]] = {}
        self._functions: dict[tuple[str, str], Function] = {}
        self._literal: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for module in self.modules.values():
            for node in ast.walk(module.tree):
                if isinstance(node, Function):
                    self._know(module, node)

    def _know(self, module: Module, function: Function) -> None:
        returned = "" if function.returns is None else ast.unparse(function.returns)
        self._returns.setdefault(function.name, set()).add(returned)
        self._functions[module.name, function.name] = function
        declared = [(name, kind) for name, kind in _declared(function).items() if name not in ("self", "cls")]
        if literal := [(at, name) for at, (name, kind) in enumerate(declared) if kind == "LiteralString"]:
            self._literal[module.name, function.name] = literal

    def found(self) -> Iterator[str]:
        """Each place whose SQL may be made from text: `module.function: expression`."""
        for module in self.modules.values():
            for (path, function), call in _places(module.tree, None, ""):
                for argument in (*_sent(call), *self._declared_literal(call, module)):
                    if not self._is_fine(argument, module, function):
                        yield f"{module.name}.{path}: {ast.unparse(argument)}"

    def _declared_literal(self, call: ast.Call, module: Module) -> Iterator[ast.expr]:
        """What a call gives to parameters that are declared literal."""
        for at, keyword in self._literal.get(_called(call.func, module), ()):
            yield from call.args[at : at + 1]
            yield from (one.value for one in call.keywords if one.arg == keyword)

    def _is_fine(  # noqa: C901, PLR0911, PLR0912 - one case for each form
        self, node: ast.expr, module: Module, function: Function | None
    ) -> bool:
        def fine(*nodes: ast.expr) -> bool:
            return all(self._is_fine(one, module, function) for one in nodes)

        match node:
            case ast.Constant() | ast.Call(func=ast.Name(id="int")):
                return True
            case ast.IfExp(body=body, orelse=other):
                return fine(body, other)
            case ast.BinOp(left=left, right=right):
                return fine(left, right)
            case ast.JoinedStr(values=parts) | ast.Tuple(elts=parts) | ast.Dict(values=parts):
                return fine(*parts)
            case ast.FormattedValue(value=value, format_spec=spec):
                return (spec is not None and ast.unparse(spec).endswith("d'")) or fine(value)
            case ast.Subscript(value=ast.Name() as known):
                return fine(known)
            case ast.Name(id=name):
                return self._is_fine_name(name, module, function)
            case ast.Attribute(value=ast.Name(id=of), attr=name) if of in module.imported:
                return self._is_fine_constant(".".join(module.imported[of]), name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="sql"), attr=kind)):
                return f"sql.{kind}" in COMPOSED  # what it is given is a place of its own
            case ast.Call(
                func=ast.Attribute(value=inner, attr=("format" | "join")), args=args, keywords=named
            ):
                given = (*args, *(one.value for one in named))
                return self._is_composed(inner, module, function) or fine(inner, *given)
            case ast.Call(func=ast.Attribute(value=inner, attr=method)) if method in KEEPING:
                return fine(inner)
            case ast.Call(func=called):
                return self._is_fine_call(called, module)
            case _:
                return False

    def _is_fine_call(self, called: ast.expr, module: Module) -> bool:
        path, name = _called(called, module)
        if self._returns.get(name, {""}) <= COMPOSED:
            return True
        function = self._functions.get((path, name))
        returned = (
            [one.value for one in ast.walk(function) if isinstance(one, ast.Return)] if function else []
        )
        return bool(returned) and all(
            one is not None and self._is_fine(one, self.modules[path], function) for one in returned
        )

    def _is_composed(self, node: ast.expr, module: Module, function: Function | None) -> bool:
        """Whether it is no text but something of `psycopg.sql`, whose `format` quotes."""
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="sql"))):
                return True
            case ast.Name(id=name):
                values = [value for local, value in _locals(function) if local == name]
                values += [module.constants[name]] if not values and name in module.constants else []
                declared = _declared(function).get(name, "") in COMPOSED
                return declared or (
                    bool(values) and all(self._is_composed(one, module, function) for one in values)
                )
            case ast.Call(func=ast.Name(id=called)):
                return self._returns.get(called, {""}) <= COMPOSED
            case _:
                return False

    def _is_fine_name(self, name: str, module: Module, function: Function | None) -> bool:
        values = [value for local, value in _locals(function) if local == name]
        if values:
            return all(self._is_fine(value, module, function) for value in values)
        if name in _declared(function):
            return _declared(function)[name] in COMPOSED | {"LiteralString"}
        return self._is_fine_constant(*module.imported.get(name, (module.name, name)))

    def _is_fine_constant(self, path: str, name: str) -> bool:
        home = self.modules.get(path)
        value = None if home is None else home.constants.get(name)
        return home is not None and value is not None and self._is_fine(value, home, None)


def _called(function: ast.expr, module: Module) -> tuple[str, str]:
    """The module and the name of a function that is called; the module is not known of a method."""
    match function:
        case ast.Name(id=name):
            return module.imported.get(name, (module.name, name))
        case ast.Attribute(value=ast.Name(id=of), attr=name) if of in module.imported:
            return ".".join(module.imported[of]), name
        case ast.Attribute(attr=name):
            return "", name
        case _:
            return "", ""


def _places(
    node: ast.AST, function: Function | None, path: str
) -> Iterator[tuple[tuple[str, Function | None], ast.Call]]:
    """Each call, with the function that it stands in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            inner = f"{path}.{child.name}".strip(".")
            yield from _places(child, child if isinstance(child, Function) else function, inner)
            continue
        if isinstance(child, ast.Call):
            yield (path, function), child
        yield from _places(child, function, path)


def _sent(call: ast.Call) -> Iterator[ast.expr]:
    """The expressions that a call gives away as SQL."""
    match call.func:
        case ast.Attribute(value=ast.Name(id="sql"), attr="SQL"):
            yield call.args[0]
        case ast.Attribute(attr=name) if name in SENDING and name != "stream" and call.args:
            yield call.args[SENDING[name]]
        case ast.Name(id="stream") if len(call.args) > SENDING["stream"]:
            yield call.args[SENDING["stream"]]


def _locals(function: Function | None) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(function) if function is not None else ():
        if isinstance(node, ast.stmt):
            yield from _assigned([node])
        if isinstance(node, ast.NamedExpr):
            yield node.target.id, node.value
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            yield node.target.id, node.iter


def _declared(function: Function | None) -> dict[str, str]:
    """The types of a function's parameters."""
    if function is None:
        return {}
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return {one.arg: "" if one.annotation is None else ast.unparse(one.annotation) for one in every}


def _sources() -> dict[str, str]:
    return {
        ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts): path.read_text()
        for path in sorted(FOLDER.rglob("*.py"))
    }


def places(sources: Mapping[str, str]) -> set[str]:
    return set(House(sources).found())


def test_no_sql_is_made_from_text_but_where_the_reason_is_told() -> None:
    found = {place.removeprefix("source_timescaledb.") for place in places(_sources())}

    assert found - EXCEPTIONS.keys() == set()
    assert EXCEPTIONS.keys() - found == set()


GOOD: Final = """
from psycopg import sql
from typing import LiteralString
from source_timescaledb import queries
from source_timescaledb.queries import by_version

QUERY = "SELECT 1"
TEMPLATE = sql.SQL("SELECT {}")
TYPES = {1: "date", 2: "timestamp"}

def ask(connection, name: str, condition: sql.Composable, word: LiteralString, new: bool, number: int):
    connection.execute(QUERY, [name])
    connection.execute(QUERY.encode())
    connection.execute(queries.OTHER)
    connection.execute(by_version(new))
    connection.execute(TEMPLATE.format(sql.Identifier(name)))
    connection.execute(sql.SQL("SELECT {} FROM {}").format(condition, name))
    connection.execute(composed(name))
    connection.execute(condition)
    connection.execute(sql.SQL(word))
    connection.execute(sql.SQL(TYPES[number]))
    connection.execute(f"SELECT {number:d}, {int(name)}")
    operator = ">" if new else ">="
    connection.execute(f"SELECT 1 {operator} 2")
    for statement in ("BEGIN", "COMMIT"):
        connection.execute(statement)
    ask(connection, name, condition, "word", new, number)

def composed(name: str) -> sql.Composed:
    return sql.SQL("SELECT {}").format(sql.Literal(name))
"""
QUERIES: Final = """
OTHER = "SELECT 2"
LATER = "SELECT {column}"

def by_version(new):
    column = "a" if new else "b"
    return LATER.format(column=column)

def by_name(name):
    return LATER.format(column=name)
"""
BAD: Final = (
    'connection.execute(f"SELECT {name}")',
    'connection.execute(f"SELECT {name!r}".encode())',
    'connection.execute("SELECT %s" % name)',
    'connection.execute("SELECT " + name)',
    'connection.execute("SELECT {}".format(name))',
    "connection.execute(QUERY.format(name))",
    'connection.execute(", ".join([name]))',
    "connection.execute(name)",
    "connection.execute(name.encode())",
    "connection.execute(QUERY if name else name)",
    "connection.execute(queries.by_name(name))",
    "connection.execute(by_name(name))",
    "connection.execute(queries.UNKNOWN)",
    "connection.execute(given)",
    "connection.execute(connection.text)",
    "connection.execute(made(name))",
    "connection.executemany(name, [])",
    "cursor.copy(name)",
    "server.send_query(name)",
    "stream(connection, name, 5)",
    "sql.SQL(name)",
    'sql.SQL("SELECT {}").format(sql.SQL(name))',
    'sql.SQL(f"SELECT {name}")',
    'statement = f"DROP {name}"\n    connection.execute(statement)',
    "for statement in (QUERY, name):\n        connection.execute(statement)",
    "literal(name)",
    "literal(word=name)",
)


def source(statement: str) -> Mapping[str, str]:
    head = GOOD.partition("def ask")[0]
    more = "def literal(word: LiteralString): ...\ndef made(name): return 'SELECT ' + name\n"
    more += "from source_timescaledb.queries import by_name\n"
    text = f"{head}{more}def ask(connection, name: str, given):\n    {statement}\n"
    return {"source_timescaledb.asking": text, "source_timescaledb.queries": QUERIES}


def test_what_is_literal_or_composed_is_fine() -> None:
    assert places({"source_timescaledb.asking": GOOD, "source_timescaledb.queries": QUERIES}) == set()


@pytest.mark.parametrize("statement", BAD)
def test_what_is_made_from_text_is_found(statement: str) -> None:
    assert len(places(source(statement))) == 1

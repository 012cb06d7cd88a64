"""What the connector says when something is in the way, read from its source text.

Errors and findings are made where they occur, as `SomeError("sentence", remedy="...")` or `Finding(severity, topic,
"sentence", "remedy")`, so their sentences can be read from the syntax tree. What is only known at run time, a name or a
number, is an ellipsis here. Defects are left out: what to do about those is to report them.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from pages.reading import ROOT
from pages.written import drawn
from source_timescaledb.errors import FailureType
from source_timescaledb.sqlstates import VERDICTS

GAP: Final = "…"
PACKAGE: Final = ROOT / "source_timescaledb"
HEADING: Final = ("The connector says", "Kind", "What to do, as it says it")
CODES: Final = ("Code, or its first two characters", "Kind", "What to do, as it says it")
FINDINGS: Final = {"BLOCKING": "blocks", "WARNING": "warning", "NOTE": "note"}
ERRORS: Final = {FailureType.CONFIG: "configuration", FailureType.TRANSIENT: "passing"}
SQL: Final = "It prints the SQL."

Constants = Mapping[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Sentence:
    """What is said, of what kind it is, and what is said to do."""

    text: str
    kind: str
    remedy: str


def sentence_table() -> str:
    """All that is said, in the order of the alphabet."""
    return drawn(HEADING, ((_plain(one.text), one.kind, _plain(one.remedy)) for one in sorted(sentences())))


def verdict_table() -> str:
    """What each of the server's own error codes means for a sync."""
    said = sorted((code, one) for code, one in VERDICTS.items() if one.failure_type in ERRORS)
    return drawn(CODES, ((f"`{code}`", ERRORS[one.failure_type], _plain(one.remedy)) for code, one in said))


def _plain(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([<*])", r"\\\1", text)


@cache
def sentences() -> frozenset[Sentence]:
    """All sentences of errors and findings."""
    found: set[Sentence] = set()
    for tree in _trees():
        constants = {**_everywhere(), **_constants(tree)}
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="Finding")):
                    found.add(_finding(node, constants))
                case ast.Call(func=ast.Name(id=name)) if kind := _kinds().get(name):
                    found.add(_error(node, kind, constants))
    return frozenset(one for one in found if one.text.strip(f"{GAP}. "))


@cache
def templates() -> frozenset[str]:
    """Every text in the connector's source, those of its log and of the server's errors included."""
    found: set[str] = set()
    for tree in _trees():
        constants = {**_everywhere(), **_constants(tree)}
        found.update(_text(node, constants) for node in ast.walk(tree) if isinstance(node, ast.expr))
    return frozenset(found)


@cache
def _trees() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py")))


@cache
def _kinds() -> Mapping[str, str]:
    """The classes of errors that users can do something about, by name: by their own failure type, or their base's."""
    classes = {
        node.name: node for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }
    return {name: kind for name, node in classes.items() if (kind := _kind(node, classes))}


def _kind(node: ast.ClassDef | None, classes: Mapping[str, ast.ClassDef]) -> str:
    if node is None:
        return ""
    for line in node.body:
        match line:
            case ast.Assign(targets=[ast.Name(id="failure_type")], value=ast.Attribute(attr=failure_type)):
                return ERRORS.get(FailureType[failure_type], "")
            case _:
                pass
    bases = (classes.get(base.id) for base in node.bases if isinstance(base, ast.Name))
    return next(filter(None, (_kind(base, classes) for base in bases)), "")


@cache
def _everywhere() -> Constants:
    """Constants of all modules that are texts: those that one module takes from another are among them."""
    return {name: text for tree in _trees() for name, text in _constants(tree).items() if name.isupper()}


def _constants(tree: ast.Module) -> dict[str, str]:
    """Texts that have a name in a module, in a function of it too; one that has several is none."""
    named: dict[str, list[ast.expr]] = defaultdict(list)
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                named[name].append(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                named[name].append(value)
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                named[name].append(value)
            case _:
                pass
    found: dict[str, str] = {}
    for name, values in named.items():
        if len(values) == 1 and (text := _text(values[0], found)):
            found[name] = text
    return found


def _finding(call: ast.Call, constants: Constants) -> Sentence:
    arguments = [*call.args, *[None] * 4]
    named = {one.arg: one.value for one in call.keywords}
    severities = (
        [one.attr for one in ast.walk(call.args[0]) if isinstance(one, ast.Attribute)] if call.args else []
    )
    kinds = dict.fromkeys(FINDINGS[one] for one in severities if one in FINDINGS)
    text = named.get("sentence", arguments[2])
    remedy = named.get("remedy", arguments[3])
    return Sentence(_said(text, constants), " or ".join(kinds) or "blocks", _remedy(remedy, named, constants))


def _error(call: ast.Call, kind: str, constants: Constants) -> Sentence:
    named = {one.arg: one.value for one in call.keywords}
    text = call.args[0] if call.args else None
    return Sentence(_said(text, constants), kind, _remedy(named.get("remedy"), named, constants))


def _remedy(node: ast.expr | None, named: Mapping[str | None, ast.expr], constants: Constants) -> str:
    said = _text(node, constants).strip(GAP + " ") if node is not None else ""
    return " ".join(filter(None, (SQL if "statements" in named else "", said)))


def _text(node: ast.expr | None, constants: Constants) -> str:
    """The text of an expression, with gaps; empty where it is no text as far as its form tells."""
    match node:
        case ast.Constant(value=str(text)):
            found = text
        case ast.JoinedStr(values=parts):
            found = "".join(_text(part, constants) or GAP for part in parts)
        case ast.FormattedValue(value=ast.Name(id=name)) if name in constants:
            found = constants[name]
        case ast.FormattedValue():
            found = GAP
        case ast.Name(id=name):
            found = constants.get(name, "")
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            found = (_text(left, constants) or GAP) + (_text(right, constants) or GAP)
        case ast.IfExp(body=body, orelse=orelse):
            found = " / ".join(filter(None, (_text(body, constants), _text(orelse, constants))))
        case _:
            return ""
    return re.sub(rf"{GAP}+", GAP, found)


def _said(node: ast.expr | None, constants: Constants) -> str:
    """A sentence, without what may follow it."""
    return re.sub(rf"(?<=[.:]) ?{GAP}$", "", _text(node, constants))

"""Which hypertables take part: shell-style patterns over their names.

A pattern is compared with the bare name and, when it holds a dot, also with `schema.name`; so `metrics*`
never reaches into a schema that happens to be called `metrics_old`. `*` stands for any run of characters, `?`
for one, `[abc]` for one of a set. Upper and lower case differ, as they do in PostgreSQL once a name is
quoted. No include pattern means every hypertable; an exclude pattern always wins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class HypertableSelection:
    """The hypertables that a configuration asks for."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def selects(self, schema: str, name: str) -> bool:
        """Tell whether the hypertable takes part."""
        wanted = not self.include or _any_matches(self.include, schema, name)
        return wanted and not _any_matches(self.exclude, schema, name)

    def idle(self, names: Collection[tuple[str, str]]) -> HypertableSelection:
        """The patterns that none of these names, each with its schema, matches."""

        def among(patterns: Iterable[str]) -> tuple[str, ...]:
            return tuple(one for one in patterns if not any(_any_matches([one], *name) for name in names))

        return HypertableSelection(among(self.include), among(self.exclude))


def _any_matches(patterns: Iterable[str], schema: str, name: str) -> bool:
    return any(
        fnmatchcase(name, pattern) or ("." in pattern and fnmatchcase(f"{schema}.{name}", pattern))
        for pattern in patterns
    )

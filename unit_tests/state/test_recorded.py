"""What every version of this connector has written as state is read by this one (`integration_tests.recording`).

In `before-0.1.0` is what it wrote for a while before its first release: STREAM states beside a GLOBAL one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from source_timescaledb.lsn import Lsn
from source_timescaledb.state.codec import (
    decode,
    decode_chunk_events,
    followed_states,
    other_states,
    stream_states,
    undress,
)
from source_timescaledb.state.model import (
    ChunkEventsState,
    DatabaseIdentity,
    FollowedState,
    LogPosition,
    StreamState,
)

WHOLE = (StreamState, FollowedState, LogPosition, ChunkEventsState)
WRITTEN_BY = Path(__file__).parent / "written_by"
RECORDED = sorted(WRITTEN_BY.rglob("*.json"))
THIS_VERSION = re.search(
    r'^version = "(.+)"', (Path(__file__).parents[2] / "pyproject.toml").read_text(), re.MULTILINE
)
KINDS = {
    "full-refresh-in-its-middle",
    "full-refresh-finished",
    "cursor-in-its-middle",
    "cursor-finished",
    "changes-global-in-the-first-load",
    "changes-global-finished",
    "changes-streams-in-the-first-load",
    "changes-streams-finished",
    "changes-beside-other-streams",
    "chunk-events",
}


def recorded(path: Path) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = orjson.loads(path.read_bytes())
    return messages


def identity(messages: list[dict[str, Any]]) -> DatabaseIdentity:
    """The database that a recorded state says it is of."""
    (found,) = {orjson.dumps(one) for one in values(messages, "database") if isinstance(one, dict)}
    return DatabaseIdentity.model_validate_json(found)


def values(part: object, name: str) -> Iterator[object]:
    match part:
        case dict():
            for key, value in part.items():
                if key == name:
                    yield value
                yield from values(value, name)
        case list():
            for one in part:
                yield from values(one, name)


def models(messages: list[dict[str, Any]]) -> Iterator[BaseModel]:
    """All that is in recorded states, as this version understands it."""
    undressed, here = undress(messages), identity(messages)
    for name, blob in stream_states(other_states(undressed)).items():
        if blob.get("state_type") == "chunk_events":
            decode_chunk_events(name, blob, here)
            yield ChunkEventsState.model_validate(blob)
        else:
            yield decode(name, blob, here)
    followed = followed_states(undressed, here)
    if followed is not None:
        yield followed.position
        yield from followed.streams.values()


def told(model: BaseModel) -> Iterator[str]:
    """The fields of a model that say something, those of its parts included."""
    for name in model.model_fields_set:
        yield f"{type(model).__name__}.{name}"
        if isinstance(part := getattr(model, name), BaseModel):
            yield from told(part)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recorded_state_is_read_and_nothing_of_it_is_lost(path: Path) -> None:
    messages = recorded(path)

    known = [model.model_dump(mode="json", exclude_none=True) for model in models(messages)]

    for written in [*values(messages, "stream_state"), *values(messages, "shared_state")]:
        assert isinstance(written, dict)
        own = {name: part for name, part in written.items() if name != "shared"}
        assert any(model.items() >= own.items() for model in known)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_positions_that_streams_carry_are_united_into_the_lowest(path: Path) -> None:
    carried = [LogPosition.model_validate(one) for one in values(recorded(path), "shared")]
    united = [model for model in models(recorded(path)) if isinstance(model, LogPosition)]

    assert len(united) == path.stem.startswith("changes")
    for position in carried:
        assert Lsn.parse(united[0].lsn) <= Lsn.parse(position.lsn)
        assert united[0].clock >= position.clock


def test_the_states_of_this_version_are_recorded_in_all_their_kinds() -> None:
    assert THIS_VERSION
    assert {path.stem for path in (WRITTEN_BY / THIS_VERSION[1]).iterdir()} == KINDS


def test_every_kind_of_state_and_every_part_of_it_was_recorded() -> None:
    found = [model for path in RECORDED for model in models(recorded(path))]

    assert {type(model) for model in found} == {*WHOLE}
    parts = {name for model in found for name in told(model)}
    for model in WHOLE:
        missing = {f"{model.__name__}.{name}" for name in model.model_fields} - parts
        assert missing == set()
    assert {part.partition(".")[0] for part in parts} >= {
        "ChunkProgress",
        "KeyProgress",
        "CursorPosition",
        "Audited",
    }

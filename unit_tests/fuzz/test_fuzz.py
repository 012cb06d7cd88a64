"""A small round of the fuzzing, and that its judge complains where something is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.surroundings import Surroundings
from fuzz import examination, scene
from fuzz.campaign import Finding, play, replay
from fuzz.encoder import encode
from fuzz.examination import Complaint, Tally, alone, examine, together
from fuzz.layouts import LAYOUTS, POOL
from fuzz.mutations import Mutation
from fuzz.report import page
from fuzz.sessions import Fate, session
from source_timescaledb.errors import DefectError
from source_timescaledb.lsn import Lsn
from source_timescaledb.pgoutput.decoder import MalformedMessage
from source_timescaledb.pgoutput.messages import Begin, Insert, Message

LAYOUT = POOL[6]
WHERE = Surroundings(
    date="2026-01-02 03:04 UTC",
    command="python -m fuzz",
    connector="0.1.0 (abc)",
    server="none",
    python="CPython 3.11",
    libraries="airbyte-cdk 7",
    machine="2 cores",
    load="0.01 / 0.02 / 0.03",
)


def test_thousands_of_messages_are_decoded_or_refused_and_both_paths_agree() -> None:
    lot = play(2, 0, 60)

    assert lot.findings == []
    assert lot.tally.total > 4000
    assert {mutation for _, mutation, _ in lot.tally.inputs} == set(Mutation) - {Mutation.ORDER}
    assert {fate for fate, _ in lot.tally.sessions} == set(Fate)


def test_a_session_is_the_same_whenever_it_is_made() -> None:
    assert session(1, 5) == session(1, 5)
    assert session(1, 5).sent != session(2, 5).sent


@pytest.mark.parametrize(
    ("raised", "complaint"),
    [
        (ValueError("no"), "decode raises ValueError"),
        (MalformedMessage(b"I", "holds canary"), "tells a value"),
        (MemoryError(), "decode raises MemoryError"),
    ],
)
def test_an_error_that_is_not_documented_or_tells_a_value_is_complained_of(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, complaint: str
) -> None:
    def failing(_payload: bytes) -> Message:
        raise raised

    monkeypatch.setattr(examination, "decode", failing)

    with pytest.raises(Complaint, match=complaint):
        alone(b"I", LAYOUT)


def test_a_decoder_that_makes_something_up_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "decode", lambda _payload: Begin(Lsn(1), 2, 3))

    with pytest.raises(Complaint, match="encoded otherwise"):
        alone(b"B", LAYOUT)


def test_a_decoder_that_takes_more_memory_than_its_input_explains_is_complained_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = Begin(Lsn(1), 2, 3)

    def greedy(_payload: bytes) -> Message:
        assert bytearray(1 << 20)
        return begin

    monkeypatch.setattr(examination, "decode", greedy)

    with pytest.raises(Complaint, match="bytes of memory"):
        alone(encode(begin), LAYOUT, weighed=True)


def test_a_decoder_that_does_not_end_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(_payload: bytes) -> Message:
        while True:
            pass

    monkeypatch.setattr(examination, "decode", endless)
    monkeypatch.setattr(examination, "HANG_SECONDS", 0.05)

    with pytest.raises(Complaint, match="no end"):
        examine(session(1, 1), 1, Tally())


def test_a_fast_row_that_is_not_the_plain_one_is_complained_of() -> None:
    payload = encode(Insert(LAYOUT.relation.oid, tuple(None for _ in LAYOUT.relation.columns)))
    assert alone(payload, LAYOUT) is not None

    with pytest.raises(Complaint, match="the fast writer of a row"):
        alone(payload, replace(LAYOUT, write=lambda _: b"{"))


def test_paths_that_differ_are_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    pumped = scene.pumped

    def differing(place: int, *rest: object, plain: bool) -> scene.Ended:
        ended = pumped(place, *rest, plain=plain)  # type: ignore[arg-type]
        return replace(ended, error=DefectError("another")) if plain else ended

    monkeypatch.setattr(examination, "pumped", differing)

    with pytest.raises(Complaint, match="differ"):
        together(session(1, 1))


def test_a_finding_is_played_again_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = Finding(1, 3, "was wrong", b"B\0", "").write(tmp_path)
    assert replay(path) is None

    monkeypatch.setattr(examination, "decode", lambda _payload: Begin(Lsn(1), 2, 3))

    assert "encoded otherwise" in (replay(path) or "")


def test_the_page_tells_what_was_tried_and_what_failed() -> None:
    tally = Tally()
    tally.inputs["Begin", Mutation.NONE, "decoded"] = 1200
    tally.inputs["none", Mutation.CUT, "refused"] = 34
    tally.sessions[Fate.WHOLE, "told"] = 56

    text = page(WHERE, 9, tally, [Finding(9, 77, "it differs", None, "")], LAYOUTS)

    assert "| Inputs | 1,234 |" in text
    assert "| Begin | 1,200 | 0 |" in text
    assert "| refused | 0 | 34 |" in text
    assert "| the end cut off | 0 | 34 |" in text
    assert "| whole | told | 56 |" in text
    assert "- session 77: it differs" in text

"""A seed deals the same blows each time, of every kind, and for as long as they are meant to last."""

from __future__ import annotations

from itertools import islice

from oracle.faults import FREQUENCY, SILENT_SECONDS, Fault, blows


def test_a_seed_gives_the_same_blows_each_time_and_another_seed_others() -> None:
    first, again, other = (list(islice(blows(seed), 40)) for seed in (3, 3, 4))

    assert first == again
    assert first != other


def test_every_kind_comes_and_the_rare_one_rarely() -> None:
    dealt = list(islice(blows(1), 2000))

    assert {blow.fault for blow in dealt} == set(Fault) == set(FREQUENCY)
    assert sum(blow.fault is Fault.SILENT for blow in dealt) < 20


def test_only_a_silence_lasts_until_it_must_have_been_noticed() -> None:
    for blow in islice(blows(2), 2000):
        assert (blow.lasts == SILENT_SECONDS) == (blow.fault is Fault.SILENT)
        assert blow.lasts <= 1.5 or blow.fault is Fault.SILENT
        assert 0 <= blow.share < 1
        assert 0 < blow.after < 1

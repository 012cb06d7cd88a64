"""The traps of TimescaleDB for whoever follows or reads it: each is a test, by the number of the project's list of 35.

Each test springs its trap first, once, as somebody walks into it who knows PostgreSQL and not TimescaleDB; so the trap is
known to be real on the server at hand. Then the connector works in the same place. `unit_tests/test_traps.py` watches
that no number is missing.

    test_loss_of_chunks         1, 2, 8, 9, 11, 12   rows of chunks that nobody publishes
    test_loss_by_compression    3 to 7               rows that compression hides, from the log or from a reader
    test_loss_of_position       10, 32               changes between two positions
    test_ghosts                 13 to 17             rows told twice, or of another moment, or left behind
    test_false_deletes          18 to 20             deletes of rows that are there
    test_wrong_names            21 to 27             rows under another's name, in other columns, in another order
    test_damage                 28 to 31             what a reader does to the application
    test_rights_and_replicas    33 to 35             rows that a role may not see, snapshots that a standby gets wrong
"""

from __future__ import annotations

from integration_tests.cdc.conftest import community, followed, small_slices

__all__ = ["community", "followed", "small_slices"]

"""The traps of TimescaleDB for whoever follows or reads it: each is a test, by the number of the project's list of 35.

Each test springs its trap first, once, as somebody would walk into it who knows PostgreSQL and not TimescaleDB: so the trap is
known to be real on the server at hand. Then the connector does its work in the same place. That no number is missing,
`unit_tests/test_traps.py` watches.

    test_loss_of_chunks        rows of chunks that nobody publishes
    test_loss_by_compression   rows that compression hides, from the log or from a reader
    test_loss_of_position      changes between two positions
    test_ghosts                rows told twice, or that were never there
    test_false_deletes         deletes of rows that are there
    test_wrong_names           rows under another's name, in other columns, in another order
    test_damage                what a reader does to the application
    test_rights_and_replicas   rows that a role may not see, snapshots that a standby gets wrong
"""

from __future__ import annotations

from integration_tests.cdc.conftest import community, followed, small_slices

__all__ = ["community", "followed", "small_slices"]

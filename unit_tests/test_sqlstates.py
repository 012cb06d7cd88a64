from __future__ import annotations

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import errors

from source_timescaledb.errors import (
    ConfigurationError,
    ConnectorError,
    DefectError,
    FailureType,
    TransientError,
)
from source_timescaledb.sqlstates import VERDICTS, Verdict, connector_error, name, server_error, verdict

CODE = st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5)


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("28P01", ConfigurationError),
        ("28000", ConfigurationError),
        ("3D000", ConfigurationError),
        ("3F000", ConfigurationError),
        ("42501", ConfigurationError),
        ("42P01", ConfigurationError),
        ("42704", ConfigurationError),
        ("55000", ConfigurationError),
        ("22021", ConfigurationError),
        ("0A000", ConfigurationError),
        ("TS101", ConfigurationError),
        ("08006", TransientError),
        ("53100", TransientError),
        ("53300", TransientError),
        ("53400", TransientError),
        ("55006", TransientError),
        ("55P03", TransientError),
        ("57014", TransientError),
        ("57P01", TransientError),
        ("57P02", TransientError),
        ("57P03", TransientError),
        ("25P03", TransientError),
        ("40001", TransientError),
        ("40P01", TransientError),
        ("XX000", DefectError),
        ("22003", ConfigurationError),
        ("22012", ConfigurationError),
        ("42601", DefectError),
        ("9ZZZZ", TransientError),
    ],
)
def test_a_sqlstate_decides_the_kind_of_failure(sqlstate: str, kind: type[ConnectorError]) -> None:
    assert type(server_error(sqlstate, "message", "Reading")) is kind


def test_a_message_without_data_is_quoted_with_its_code_and_a_remedy() -> None:
    error = server_error("42501", "permission denied for table metrics", "Reading public.metrics")

    assert error.message == (
        "Reading public.metrics failed: permission denied for table metrics (SQLSTATE 42501)."
    )
    assert error.remedy == "Grant the role what it lacks, or leave the relation out of the connection."


@pytest.mark.parametrize(
    "sqlstate", ["22P02", "22021", "22003", "23505", "23514", "P0001", "HV000", "42601", "9ZZZZ"]
)
def test_a_message_that_may_hold_data_is_never_quoted(sqlstate: str) -> None:
    error = server_error(sqlstate, "canary", "Reading")

    assert "canary" not in f"{error} {error!r} {error.detail}"
    assert name(sqlstate) in error.message


@pytest.mark.parametrize("sqlstate", sorted(code for code in VERDICTS if len(code) == 5))
def test_every_code_of_the_table_is_one_that_exists(sqlstate: str) -> None:
    assert name(sqlstate) != "an error unknown to the driver" or sqlstate.startswith("TS")


@pytest.mark.parametrize("judged", VERDICTS.values(), ids=list(VERDICTS))
def test_every_failure_that_somebody_has_to_mend_has_a_remedy(judged: Verdict) -> None:
    assert judged.remedy or judged.retryable


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.OperationalError("canary"), TransientError),
        (errors.ConnectionTimeout("canary"), TransientError),
        (errors.InterfaceError("canary"), TransientError),
        (errors.DataError("canary"), DefectError),
        (errors.ProgrammingError("canary"), DefectError),
        (errors.NotSupportedError("canary"), DefectError),
        (errors.DeadlockDetected("canary"), TransientError),
        (errors.UndefinedTable("canary"), ConfigurationError),
    ],
)
def test_a_driver_error_is_judged_by_its_class_and_its_text_is_not_used(
    error: psycopg.Error, kind: type[ConnectorError]
) -> None:
    told = connector_error(error, "Reading")

    assert type(told) is kind
    assert "canary" not in f"{told} {told!r} {told.detail}"


@settings(deadline=None)
@given(CODE)
def test_every_code_has_a_verdict(sqlstate: str) -> None:
    assert isinstance(verdict(sqlstate).failure_type, FailureType)


@settings(deadline=None)
@given(CODE)
def test_a_kind_of_failure_and_its_failure_type_agree(sqlstate: str) -> None:
    error = server_error(sqlstate, None, "Reading")

    assert error.failure_type is verdict(sqlstate).failure_type

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import errors

from source_timescaledb.errors import (
    ConfigurationError,
    ConnectionsExhaustedError,
    ConnectorError,
    DefectError,
    FailureType,
    TransientError,
    UnavailableError,
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
        ("08006", UnavailableError),
        ("53100", TransientError),
        ("53300", ConnectionsExhaustedError),
        ("53400", TransientError),
        ("55006", TransientError),
        ("55P03", TransientError),
        ("57014", TransientError),
        ("57P01", UnavailableError),
        ("57P02", UnavailableError),
        ("57P03", UnavailableError),
        ("25P03", TransientError),
        ("40001", TransientError),
        ("40P01", TransientError),
        ("XX000", DefectError),
        ("22003", ConfigurationError),
        ("22012", ConfigurationError),
        ("42601", DefectError),
        ("21000", ConfigurationError),
        ("38001", ConfigurationError),
        ("3B001", DefectError),
        ("72000", TransientError),
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
        (errors.OperationalError("canary"), UnavailableError),
        (errors.ConnectionTimeout("canary"), UnavailableError),
        (errors.InterfaceError("canary"), UnavailableError),
        (errors.DataError("canary"), DefectError),
        (errors.ProgrammingError("canary"), DefectError),
        (errors.NotSupportedError("canary"), DefectError),
        (errors.PipelineAborted("canary"), UnavailableError),
        (psycopg.Error("canary"), DefectError),
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


def test_every_error_of_the_servers_documentation_is_judged_by_the_table() -> None:
    known = {
        error.sqlstate
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, psycopg.Error) and isinstance(error.sqlstate, str)
    }

    assert len(known) > 200
    assert [code for code in sorted(known) if code not in VERDICTS and code[:2] not in VERDICTS] == []


@settings(deadline=None)
@given(CODE)
def test_every_code_has_a_verdict(sqlstate: str) -> None:
    assert isinstance(verdict(sqlstate).failure_type, FailureType)


@settings(deadline=None)
@given(CODE)
def test_a_kind_of_failure_and_its_failure_type_agree(sqlstate: str) -> None:
    error = server_error(sqlstate, None, "Reading")

    assert error.failure_type is verdict(sqlstate).failure_type

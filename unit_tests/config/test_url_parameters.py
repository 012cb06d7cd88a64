from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from source_timescaledb.config.url_parameters import RESERVED, UrlParameters


@pytest.mark.parametrize(
    ("text", "libpq"),
    [
        ("connectTimeout=5", {"connect_timeout": "5"}),
        ("?connectTimeout=5&", {"connect_timeout": "5"}),
        ("tcpKeepAlive=false", {"keepalives": "0"}),
        ("ApplicationName=my%20app", {"application_name": "my app"}),
        ("options=-c%20work_mem=1GB", {"options": "-c work_mem=1GB"}),
        ("targetServerType=preferSecondary", {"target_session_attrs": "prefer-standby"}),
        ("targetServerType=master&loadBalanceHosts=true",
         {"target_session_attrs": "primary", "load_balance_hosts": "random"}),
        ("sslrootcert=/ca.pem", {"sslrootcert": "/ca.pem"}),
        ("", {}),
    ],
)  # fmt: skip
def test_what_libpq_knows_too_is_said_in_its_words(text: str, libpq: dict[str, str]) -> None:
    assert dict(UrlParameters.parse(text).libpq) == libpq


def test_what_libpq_has_no_word_for_is_named_as_ignored() -> None:
    parameters = UrlParameters.parse("prepareThreshold=0&connectTimeout=5&socketTimeout=30")

    assert parameters.ignored == ("prepareThreshold", "socketTimeout")


@pytest.mark.parametrize("key", RESERVED)
def test_a_key_with_a_setting_of_its_own_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="which have settings of their own"):
        UrlParameters.parse(f"{key}=x")


@pytest.mark.parametrize(
    ("text", "must_be"),
    [
        ("canary", "written as key1=value1&key2=value2"),
        ("connectTimeout=canary", "written with a whole number of seconds for connectTimeout"),
        ("connectTimeout=-1", "written with a whole number of seconds for connectTimeout"),
        ("tcpKeepAlive=canary", "written with true or false for tcpKeepAlive"),
        ("targetServerType=canary", "written with any, primary, secondary or preferSecondary"),
    ],
)
def test_a_wrong_value_is_told_by_what_it_must_be_and_not_repeated(text: str, must_be: str) -> None:
    with pytest.raises(ValueError, match=must_be) as caught:
        UrlParameters.parse(text)

    assert "canary" not in str(caught.value)


def test_a_repr_shows_no_value() -> None:
    assert "canary" not in repr(UrlParameters.parse("sslpassword=canary"))


@settings(deadline=None)
@given(st.text())
def test_any_text_is_either_parameters_or_a_value_error(text: str) -> None:
    try:
        parameters = UrlParameters.parse(text)
    except ValueError:
        return
    assert isinstance(parameters, UrlParameters)

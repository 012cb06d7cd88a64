from __future__ import annotations

from source_timescaledb.postgres.refusal import Refusal, Unspoken, _refusal, ask_again

GREETING = b'B\t1\tSSLResponse\t N\nF\t37\tStartupMessage\t 3 0 "user" "u" "database" "d"\n'


def test_the_code_and_the_message_are_found_in_any_language() -> None:
    record = (
        GREETING
        + (
            'B\tNN\tErrorResponse\t S "FATAL" V "FATAL" C "28P01" M "Passwort-Authentifizierung für Benutzer »u«'
            ' fehlgeschlagen" F "SSSS" L "SSSS" R "SSSS" \\x00\n'
        ).encode()
    )

    message = "Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen"
    assert _refusal(record) == Refusal("28P01", message)


def test_quotes_and_line_breaks_belong_to_the_message() -> None:
    record = GREETING + b'B\tNN\tErrorResponse\t S "FATAL" C "3D000" M "database "a\nb" is absent" \\x00\n'

    assert _refusal(record) == Refusal("3D000", 'database "a\nb" is absent')


def test_an_old_server_without_the_untranslated_severity_is_understood() -> None:
    record = b'B\tNN\tErrorResponse\t S "FATAL" C "57P03" M "starting up" F "SSSS" \\x00\n'

    assert _refusal(record) == Refusal("57P03", "starting up")


def test_of_two_refusals_the_last_counts() -> None:
    with_tls = b'B\tNN\tErrorResponse\t S "FATAL" C "28000" M "no entry, encrypted" F "SSSS" \\x00\n'
    without = b'B\tNN\tErrorResponse\t S "FATAL" C "28P01" M "wrong password" F "SSSS" \\x00\n'

    assert _refusal(GREETING + with_tls + GREETING + without) == Refusal("28P01", "wrong password")


def test_a_record_without_a_refusal_says_nothing() -> None:
    assert _refusal(GREETING) is None


def test_a_parameter_that_libpq_cannot_use_is_found_without_a_server() -> None:
    parameters = {"host": "127.0.0.1", "port": 1, "channel_binding": "nonsense", "connect_timeout": 2}

    assert ask_again(parameters) == Unspoken()

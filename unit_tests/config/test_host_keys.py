from __future__ import annotations

import pytest

from source_timescaledb.config.host_keys import HostKeys

# An ed25519 key and its fingerprint as OpenSSH's tools print them.
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICt8VyKLGWKZPviQb+9UOJCxj8b0zrYJUcSaE+w9aKh6 root@jump"
FINGERPRINT = "SHA256:gvWiGojWTwn227EZ8s8YHU7KaZ7FKX3aKWOeWzQcP3c"


@pytest.mark.parametrize(
    "text",
    [
        FINGERPRINT,
        f"  {FINGERPRINT}=\n",
        f"256 {FINGERPRINT} root@jump (ED25519)",
        LINE,
        f"jump.example.com {LINE}",
        f"# jump.example.com:22 SSH-2.0-OpenSSH_10.0\n[jump.example.com]:2222 {LINE}\n",
    ],
)
def test_a_fingerprint_is_found_in_whatever_the_tools_of_openssh_print(text: str) -> None:
    assert HostKeys.parse(text).fingerprints == {FINGERPRINT}


def test_several_keys_are_all_accepted() -> None:
    another = f"SHA256:{'A' * 43}"

    assert HostKeys.parse(f"{another}, {LINE}").fingerprints == {another, FINGERPRINT}
    assert HostKeys.parse(f"{another};{FINGERPRINT}").fingerprints == {another, FINGERPRINT}


@pytest.mark.parametrize(
    "text",
    ["", "jump.example.com", "MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48", "SHA256:short", "AAAA",
     FINGERPRINT + "A"],
)  # fmt: skip
def test_a_text_without_any_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SHA256 fingerprints"):
        HostKeys.parse(text)

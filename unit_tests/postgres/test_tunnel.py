from __future__ import annotations

from source_timescaledb.config import read_configuration
from source_timescaledb.postgres.tunnel import Tunnel

JUMP = {"tunnel_host": "jump.example.com", "tunnel_user": "u", "tunnel_method": "SSH_PASSWORD_AUTH"}


def tunnel(**given: object) -> Tunnel | None:
    configuration, _ = read_configuration({"host": "h", "database": "d", "username": "u", **given})
    return Tunnel.of(configuration)


def test_without_the_setting_there_is_none() -> None:
    assert tunnel() is None


def test_what_leads_through_the_same_jump_server_in_the_same_way_shares_one() -> None:
    one = tunnel(tunnel_method={**JUMP, "tunnel_user_password": "p"})
    same = tunnel(tunnel_method={**JUMP, "tunnel_user_password": "p"}, host="another", username="another")

    assert one is same


def test_another_password_or_another_known_key_is_another_tunnel() -> None:
    one = tunnel(tunnel_method={**JUMP, "tunnel_user_password": "p"})
    other = tunnel(tunnel_method={**JUMP, "tunnel_user_password": "q"})
    insisting = tunnel(
        tunnel_method={**JUMP, "tunnel_user_password": "p"},
        timescaledb={"ssh_host_key": f"SHA256:{'A' * 43}"},
    )

    assert len({id(one), id(other), id(insisting)}) == 3

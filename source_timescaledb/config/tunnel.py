"""The way to a database that only a jump server can reach: `tunnel_method`, as in all Airbyte databases."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, SecretStr

from source_timescaledb.config.section import Pem, Section


class NoTunnel(Section):
    """Connect straight to the database."""

    model_config = ConfigDict(title="No Tunnel")
    tunnel_method: Literal["NO_TUNNEL"]


class Tunnel(Section):
    """What both kinds of tunnel need to know."""

    tunnel_host: str = Field(
        title="SSH Tunnel Jump Server Host",
        description="Host name of the jump server.",
        min_length=1,
        pattern=r"\S",
    )
    tunnel_port: int = Field(
        default=22,
        title="SSH Connection Port",
        description="Port on which the jump server accepts SSH connections.",
        ge=1,
        le=65535,
        examples=[22],
    )
    tunnel_user: str = Field(
        title="SSH Login Username", description="User name on the jump server.", min_length=1
    )


class KeyTunnel(Tunnel):
    """Connect through a jump server, logging in with a private key."""

    model_config = ConfigDict(title="SSH Key Authentication")
    tunnel_method: Literal["SSH_KEY_AUTH"]
    ssh_key: Pem = Field(
        title="SSH Private Key",
        description="The user's private key on the jump server, as PEM text (ssh-keygen -t rsa -m PEM).",
        json_schema_extra={"multiline": True},
    )


class PasswordTunnel(Tunnel):
    """Connect through a jump server, logging in with a password."""

    model_config = ConfigDict(title="Password Authentication")
    tunnel_method: Literal["SSH_PASSWORD_AUTH"]
    tunnel_user_password: SecretStr = Field(
        title="Password", description="The user's password on the jump server."
    )


TunnelMethod = Annotated[NoTunnel | KeyTunnel | PasswordTunnel, Field(discriminator="tunnel_method")]

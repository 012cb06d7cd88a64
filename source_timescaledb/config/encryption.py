"""How the connection to the database is encrypted: `ssl_mode`, one object for each of libpq's six modes.

The modes differ in what they prove. Up to `require` nobody checks whom we talk to; `verify-ca` checks that
the certificate comes from the given authority, `verify-full` also that it was made for the host we asked for.
A mode that verifies without an authority to verify against would be a promise nobody keeps, so the authority
is required here, before anything is connected.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, SecretStr, model_validator
from typing_extensions import Self

from source_timescaledb.config.section import Pem, Section, expected


class Disable(Section):
    """Never encrypt."""

    model_config = ConfigDict(title="disable")
    mode: Literal["disable"]


class Allow(Section):
    """Encrypt only where the server insists on it."""

    model_config = ConfigDict(title="allow")
    mode: Literal["allow"]


class Prefer(Section):
    """Encrypt where the server can."""

    model_config = ConfigDict(title="prefer")
    mode: Literal["prefer"]


class Require(Section):
    """Always encrypt, without checking the server's certificate. Fails if the server lacks TLS."""

    model_config = ConfigDict(title="require")
    mode: Literal["require"]


class Verified(Section):
    """What the two verifying modes need to know."""

    ca_certificate: Pem = Field(
        title="CA certificate",
        description="The certificate of the authority that issued the server's certificate, as PEM text.",
        json_schema_extra={"multiline": True},
    )
    client_certificate: Pem | None = Field(
        default=None,
        title="Client certificate",
        description="The certificate that proves who we are, as PEM text. Needs the client key as well.",
        json_schema_extra={"multiline": True, "always_show": True},
    )
    client_key: Pem | None = Field(
        default=None,
        title="Client key",
        description="The private key of the client certificate, as PEM text.",
        json_schema_extra={"multiline": True, "always_show": True},
    )
    client_key_password: SecretStr | None = Field(
        default=None,
        title="Client key password",
        description="The password of the client key, if it has one.",
    )

    @model_validator(mode="after")
    def _certificate_and_key_belong_together(self) -> Self:
        if (self.client_certificate is None) != (self.client_key is None):
            raise expected("with both client_certificate and client_key, or with neither")
        return self


class VerifyCa(Verified):
    """Always encrypt, and check that the given authority issued the server's certificate."""

    model_config = ConfigDict(title="verify-ca")
    mode: Literal["verify-ca"]


class VerifyFull(Verified):
    """Always encrypt, and check that the given authority issued the server's certificate for this host."""

    model_config = ConfigDict(title="verify-full")
    mode: Literal["verify-full"]


SslMode = Annotated[Disable | Allow | Prefer | Require | VerifyCa | VerifyFull, Field(discriminator="mode")]

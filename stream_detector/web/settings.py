"""Settings of what is served over HTTP."""

from __future__ import annotations

import ipaddress
from pathlib import Path  # noqa: TC003 - pydantic reads annotations while running

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


class HttpSettings(BaseModel):
    """The page, /metrics, and health."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: str = Field(
        "127.0.0.1:8808", description="Address and port; port 0 picks a free one and prints it."
    )

    token: SecretStr | None = Field(
        None, description="Bearer token; needed to listen on anything but loopback. Better: token_file."
    )
    token_file: Path | None = Field(None, description="File with the token.")

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - TCP
            raise ValueError("must be address:port, such as 127.0.0.1:8808")
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise ValueError("the address must be numeric, such as 127.0.0.1 or 0.0.0.0") from None
        return value

    @model_validator(mode="after")
    def _guarded(self) -> HttpSettings:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are both set; keep one of them")
        if not ipaddress.ip_address(self.host).is_loopback and self.token is None and self.token_file is None:
            raise ValueError(
                f"listening on {self.host} needs token_file (or token); without one listen on 127.0.0.1"
            )
        return self

    @property
    def host(self) -> str:
        """Return the address to listen on."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port to listen on."""
        return int(self.listen.rpartition(":")[2])

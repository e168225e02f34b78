"""`mail`: the server that takes the proxy's mail. Docstrings under the keys are the reference manual's text."""

from typing import Literal

from pydantic import Field

from zt_proxy.config.schema_base import Duration, Model, SecretText


class Mail(Model):
    """Where mail goes out (RFC 6409). People get one when somebody signs in as them with a browser they never used
    before, except at the very first sign-in that is seen of them."""

    server: str
    """`host:port`, such as `smtp.example.com:587`."""
    from_: str = Field(alias="from")
    """Sender, a plain address such as `zt-proxy@example.com`."""
    tls: Literal["starttls", "implicit", "insecure_none"] = "starttls"
    """`starttls` (port 587; without it nothing is sent), `implicit` (port 465), or nothing at all."""
    username: str | None = None
    """Left out: the server is not logged in to."""
    password: SecretText | None = None
    """`${env:NAME}` or `${file:PATH}`; goes with `username`."""
    ca: str | None = None
    """PEM file of the CA that signed the server's certificate; left out: the system's."""
    timeout: Duration = 20.0
    """Longest wait for the server; nobody who signs in waits for it."""

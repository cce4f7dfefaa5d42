"""A real SMTP server (aiosmtpd) on the loopback address, that keeps what it takes, and refuses what it is told to."""

from __future__ import annotations

import asyncio
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default as policy
from functools import partial
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from parts.certificates import Authority

USER, PASSWORD = "po-exporter", "s3cret of the mail"


@dataclass
class Mail:
    """What one delivery brought."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    encrypted: bool
    authenticated: bool

    def body(self, kind: str) -> str:
        """Its part of a kind: plain or html."""
        part = self.message.get_body((kind,))
        assert part is not None
        return str(part.get_content())


@dataclass
class MailServer:
    """``refusing`` holds the answer to a recipient, by address; ``answer`` is that to the whole message."""

    port: int = 0
    delivered: list[Mail] = field(default_factory=list)
    refusing: dict[str, str] = field(default_factory=dict)
    answer: str = "250 OK"
    tries: int = 0

    async def handle_RCPT(self, _: Any, __: Any, envelope: Any, address: str, ___: Any) -> str:  # noqa: N802 - aiosmtpd's
        if address in self.refusing:
            return self.refusing[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
        self.tries += 1
        if self.answer.startswith("250"):
            message = email.message_from_bytes(envelope.content, policy=policy)
            assert isinstance(message, EmailMessage)
            encrypted, authenticated = session.ssl is not None, bool(session.authenticated)
            self.delivered.append(Mail(envelope.mail_from, envelope.rcpt_tos, message, encrypted, authenticated))
        return self.answer


def _authenticate(_: Any, __: Any, ___: Any, ____: Any, given: Any) -> AuthResult:
    right = isinstance(given, LoginPassword) and (given.login, given.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=False)  # the server answers


@asynccontextmanager
async def running_smtp(
    authority: Authority | None = None, *, authenticates: bool = False, implicit: bool = False
) -> AsyncIterator[MailServer]:
    """With STARTTLS where there is an authority, or TLS from the first byte where that is asked for."""
    server = MailServer()
    context: ssl.SSLContext | None = None
    if authority:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*authority.issue("mail"))
    loop = asyncio.get_running_loop()
    factory = partial(
        SMTP, server, loop=loop, hostname="mail.example", tls_context=None if implicit else context,
        authenticator=_authenticate, auth_required=authenticates, auth_require_tls=bool(context) and not implicit,
    )  # fmt: skip
    listening = await loop.create_server(factory, "127.0.0.1", 0, ssl=context if implicit else None)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()

"""E-mail: one thread an incident, plain text first, over a connection whose certificate is checked."""

from __future__ import annotations

import html
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

import aiosmtplib

from po_exporter.secret import Secret
from po_exporter.tell.channel import Undelivered, reveal
from po_exporter.tell.summary import Summary
from po_exporter.tell.templates import Templates
from po_exporter.tell.words import printable

TIMEOUT = 30.0
"""Seconds for each step of the exchange; mail servers take their time."""
IMPLICIT_TLS = 465
"""On this port TLS is spoken from the first byte: there is no STARTTLS."""
TEXT, HTML = "email.txt.j2", "email.html.j2"
MOST_SUBJECT = 200


@dataclass(frozen=True)
class Server:
    """How mail is handed in. ``ca_file`` is whom to trust; None: whom the system trusts."""

    host: str
    port: int
    starttls: Literal["required", "optional", "off"]
    username: str | None = None
    password: Secret | None = None
    ca_file: Path | None = None


class Email:
    """``to`` has the recipients by priority; where there are none for a summary's, it is not for this channel."""

    name = "email"
    pace = 0.0

    def __init__(self, server: Server, sender: str, to: Mapping[str, Sequence[str]], templates: Templates) -> None:
        self._server, self._sender, self._to, self._templates = server, sender, to, templates

    def wants(self, summary: Summary) -> bool:
        """Whether anybody is written to about its priority; a digest is for all of them."""
        return bool(self._recipients(summary))

    async def send(self, summary: Summary, thread: object) -> object:
        """Send it to all its recipients in one message; not what Alertmanager repeats. Raises Undelivered."""
        if summary.repeats and thread == summary.began.isoformat():
            return thread
        server, to = self._server, self._recipients(summary)
        message = compose(self._templates, summary, self._sender, to)
        password = reveal(server.password) if server.password else None
        implicit = server.port == IMPLICIT_TLS
        try:
            refused, _ = await aiosmtplib.send(
                message,
                sender=self._sender,
                recipients=list(to),
                hostname=server.host,
                port=server.port,
                username=server.username,
                password=password,
                use_tls=implicit,
                start_tls=False if implicit else {"required": True, "optional": None, "off": False}[server.starttls],
                tls_context=ssl.create_default_context(cafile=server.ca_file),
                timeout=TIMEOUT,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            refused = {each.recipient: aiosmtplib.SMTPResponse(each.code, each.message) for each in error.recipients}
            raise _refused(refused, all_of=True) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _answered(error.code, error.message) from None
        except (TimeoutError, aiosmtplib.SMTPTimeoutError):
            raise Undelivered("the mail server did not answer in time", "timeout") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Undelivered(f"the mail server cannot be used: {_line(error)}", "unreachable") from None
        if refused:  # the others have it: sent again, they would have it twice
            raise _refused(refused, all_of=False)
        return summary.began.isoformat()

    def _recipients(self, summary: Summary) -> Sequence[str]:
        if summary.kind in ("digest", "test"):
            return list(dict.fromkeys(address for addresses in self._to.values() for address in addresses))
        return self._to.get(summary.priority, ())


def compose(templates: Templates, summary: Summary, sender: str, to: Sequence[str]) -> EmailMessage:
    """The message: headers that hold together a thread, plain text, and the same as HTML."""
    text = templates.render(TEXT, summary, printable)
    page = templates.render(HTML, summary, _html)
    message = EmailMessage()
    message["From"], message["To"] = sender, ", ".join(to)
    message["Subject"] = printable(" ".join(text["subject"].split()))[:MOST_SUBJECT]
    message["Date"] = format_datetime(summary.at)
    domain = sender.rpartition("@")[2]
    first = f"<incident.{summary.incident}@{domain}>"
    if summary.kind == "opened":
        message["Message-ID"] = first
    else:
        message["Message-ID"] = f"<summary.{summary.id}@{domain}>"
    if summary.kind in ("changed", "closed", "off", "alert"):
        message["In-Reply-To"] = message["References"] = first
    # RFC 3834: nobody's vacation responder answers.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Priority"] = "1" if summary.priority == "high" and summary.kind == "opened" else "3"
    message.set_content(text["body"] + "\n")
    message.add_alternative(page["body"] + "\n", subtype="html")
    return message


def _html(text: str) -> str:
    return html.escape(printable(text))


def _refused(refused: Mapping[str, aiosmtplib.SMTPResponse], *, all_of: bool) -> Undelivered:
    who = ", ".join(f"{printable(name)} ({response.code})" for name, response in list(refused.items())[:5])
    passing = all_of and all(400 <= response.code < 500 for response in refused.values())
    return Undelivered(
        f"the mail server refused {who}", "server_error" if passing else "rejected", permanent=not passing
    )


def _answered(code: int, said: str) -> Undelivered:
    message = f"the mail server answered {code} {_line(said)}".rstrip()
    if 400 <= code < 500:
        return Undelivered(message, "server_error")
    return Undelivered(message, "rejected", permanent=True)


def _line(text: object) -> str:
    """What a server or a library says, short and in one line."""
    return printable(" ".join(str(text).split()))[:200]

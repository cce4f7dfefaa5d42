"""The server's TLS context, from the files that the configuration names."""

from __future__ import annotations

import ssl
from pathlib import Path

from po_exporter.errors import ConfigError, Fault


def server_context(cert_file: Path, key_file: Path, client_ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; with ``client_ca_file`` a client needs a certificate that it signed.

    Raises ConfigError when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An encrypted key would make OpenSSL ask on the terminal: nobody answers a daemon.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (OSError, ValueError) as error:
        what = f"cannot use {cert_file} with the key {key_file}: {_why(error)}."
        raise ConfigError([Fault("server.tls.cert_file", what)]) from None
    if client_ca_file:
        try:
            context.load_verify_locations(client_ca_file)
        except (OSError, ValueError) as error:
            what = f"cannot use {client_ca_file}: {_why(error)}."
            raise ConfigError([Fault("server.tls.client_ca_file", what)]) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"OpenSSL says {error.reason or 'that it is not PEM'}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)

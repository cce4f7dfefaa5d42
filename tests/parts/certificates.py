"""A certificate authority for the length of a test."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates; its own is in ``cert_file``."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _subject(name)
        self.cert_file = directory / f"{name}-ca.pem"
        self.cert_file.write_bytes(_pem(self._certificate(self._subject, self._key, authority=True)))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key for ``name``; issued again, they take the place of the former ones."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert_file, key_file = (self._directory / f"{self._name}-{name}.{kind}" for kind in ("pem", "key"))
        cert_file.write_bytes(_pem(self._certificate(_subject(name), key, authority=False)))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_file, key_file

    def client_context(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """For a client that trusts this authority alone, with a certificate of its own or without."""
        context = ssl.create_default_context(cafile=str(self.cert_file))
        if certificate:
            context.load_cert_chain(*certificate)
        return context

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

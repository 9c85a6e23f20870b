"""Certificates of 127.0.0.1, signed with their own keys, for tests of TLS."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID


class Files(NamedTuple):
    certificate: Path
    key: Path


def files_in(folder: Path) -> Files:
    return Files(folder / "cert.pem", folder / "key.pem")


def write(
    folder: Path,
    name: str = "stakelog",
    key: CertificateIssuerPrivateKeyTypes | None = None,
    password: bytes | None = None,
) -> Files:
    """Make a certificate with this common name in the folder, in place of one that is there."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, None if isinstance(key, ed448.Ed448PrivateKey) else hashes.SHA256())
    )
    hidden = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    files = files_in(folder)
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden))
    return files

"""The settings of the network: where the process listens, with which certificate, and for which web pages.

Each function raises ValueError with a sentence that completes ``STAKELOG_…: ``.
"""

import ipaddress
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

SECRET_LENGTH_MIN: Final = 32
"""A shorter secret of the cluster gets a warning. Chosen: 128 bits as hex digits."""

_SECRET: Final = re.compile(r"[!-~]{1,1024}\Z")
"""The header of a request carries it."""
_PORT: Final = re.compile(r"[0-9]{1,5}\Z")
_PORT_MAX: Final = 65_535


class Address(Struct, frozen=True):
    """What a server listens on. ``host`` is a name or an IP address, IPv6 without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class TlsFiles(Struct, frozen=True):
    """PEM files: the certificate with its chain, and its key."""

    certificate: Path
    key: Path


def parse_address(text: str) -> Address:
    """``host:port``, with IPv6 in brackets."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not host or (":" in host) is not bracketed or "/" in host or "@" in host:
        raise ValueError(f"{text} is not host:port, as 10.0.0.7:9090 or [::1]:9090")
    if not _PORT.match(port) or not 1 <= int(port) <= _PORT_MAX:
        raise ValueError(f"{text} lacks a port from 1 to {_PORT_MAX}, as 10.0.0.7:9090")
    return Address(host, int(port))


def parse_secret(text: str) -> str:
    if not _SECRET.match(text):
        raise ValueError("1 to 1,024 visible ASCII characters without spaces, as `openssl rand -hex 32` prints them")
    return text


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_of_all_interfaces(host: str) -> bool:
    """Whether it is 0.0.0.0 or ::, where a server listens and no client can connect."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def parse_origins(text: str) -> frozenset[str]:
    """Origins of web pages, with commas between: ``https://shop.example``. ``*`` alone: all of them."""
    origins = [origin.strip() for origin in text.split(",")]
    if origins == ["*"]:
        return frozenset(origins)
    for origin in origins:
        parts = urlsplit(origin)
        if (
            parts.scheme not in ("http", "https")
            or origin != f"{parts.scheme}://{parts.netloc}"
            or not parts.hostname
        ):
            raise ValueError(
                f"{origin or 'nothing'} is not an origin, as https://shop.example or http://127.0.0.1:3000: scheme, "
                "host and port, without a path; * alone stands for all of them"
            )
        if origin != origin.lower() or "@" in origin:
            raise ValueError(f"{origin}: browsers send an origin in lower case, without a user")
    return frozenset(origins)

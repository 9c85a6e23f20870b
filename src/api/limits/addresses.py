"""The address of a client, also behind proxies.

``X-Forwarded-For`` counts only where the connection comes from a trusted proxy, and only what trusted proxies have
added: any client can write such a header itself.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

AnyNetwork = IPv4Network | IPv6Network
_FORWARDED: Final = b"x-forwarded-for"
_LENGTH_MAX: Final = 45
"""Of an address as text. A longer text is none, and is not kept."""
_IPV6_PREFIX: Final = 64
"""A network of this size is one address: a client that has one IPv6 address usually has all of its network."""


def read_networks(text: str) -> tuple[AnyNetwork, ...]:
    """Networks in the form of ``10.0.0.0/8,fd00::/8``; an address is a network of one. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def address_of(scope: Any, trusted: Sequence[AnyNetwork]) -> str:
    """The address that a request comes from. ``trusted``: the proxies."""
    peer: str = scope["client"][0] if scope.get("client") else ""
    if not trusted or not _is_trusted(peer, tuple(trusted)):
        return _shortened(peer)
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == _FORWARDED]
    for text in reversed(",".join(forwarded).split(",")):
        address = text.strip()
        if len(address) > _LENGTH_MAX or _parsed(address) is None:
            break  # no address: what is left of it was not added by a proxy that we know
        peer = address
        if not _is_trusted(address, tuple(trusted)):
            break
    return _shortened(peer)


@lru_cache(maxsize=4_096)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(address)
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


@lru_cache(maxsize=4_096)
def _is_trusted(address: str, trusted: tuple[AnyNetwork, ...]) -> bool:
    found = _parsed(address)
    return found is not None and any(found in network for network in trusted)


@lru_cache(maxsize=4_096)
def _shortened(address: str) -> str:
    found = _parsed(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, _IPV6_PREFIX), strict=False))
    return address if found is None else str(found)

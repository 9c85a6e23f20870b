"""To which addresses a webhook may go: to public ones, and to the networks that ``STAKELOG_WEBHOOK_NETWORKS`` names.

Otherwise a client that may add an endpoint could let the service call what only the service can reach: a database,
another node, the metadata of the cloud's machine at 169.254.169.254 (server-side request forgery).

Invariants:
(1) a name is allowed only if every address that it has is allowed;
(2) the address that is connected to was checked itself: a name is not looked up again between check and connection
    (``requests`` checks once more when the socket is made);
(3) an IPv6 address that contains an IPv4 address is allowed only if that one is too.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

AnyAddress = IPv4Address | IPv6Address
AnyNetwork = IPv4Network | IPv6Network

URL_MAX: Final = 1_024
_NAT64: Final = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
"""RFC 6052 and 8215: the last 32 bits are an IPv4 address."""
_COMPATIBLE: Final = ip_network("::/96")
"""RFC 4291: deprecated addresses that contain an IPv4 address, and the unspecified and the loopback address."""
_NEVER_PUBLIC: Final = (
    ip_network("fec0::/10"),  # site-local, RFC 3879
    ip_network("3fff::/20"),  # for documentation, RFC 9637
    ip_network("192.88.99.0/24"),  # relays of 6to4, RFC 7526
    ip_network("168.63.129.16/32"),  # Azure's own service for each machine
)
"""What this Python's ``is_global`` does not know."""


class AddressRefused(Exception):
    """A webhook may not go there; the text is for the operator."""


class Guard:
    """Decides about addresses. ``networks``: allowed besides the public ones."""

    def __init__(self, networks: Sequence[AnyNetwork] = ()) -> None:
        self._networks = tuple(networks)

    def check_url(self, url: str) -> None:
        """Check what the text alone shows: no name is looked up. Raises AddressRefused."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise AddressRefused("it is not a URL") from None
        if len(url) > URL_MAX or not url.isascii() or any(letter <= " " or letter == "\x7f" for letter in url):
            raise AddressRefused(f"a URL has at most {URL_MAX} ASCII characters without spaces")
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise AddressRefused("it must be https://host/path, or http://host/path in an allowed network")
        if parts.username is not None or parts.password is not None:
            raise AddressRefused("a URL of a webhook has no user and no password: the signature shows who sends")
        if parts.fragment:
            raise AddressRefused("a URL of a webhook has no fragment")
        if "\\" in url:
            raise AddressRefused("a URL has no backslash")
        try:
            address = ip_address(parts.hostname)
        except ValueError:
            return  # a name: each attempt looks it up and checks what it finds
        self.check([address], parts.scheme)

    def check(self, addresses: Sequence[AnyAddress], scheme: str) -> None:
        """Check all addresses of a name. Plain HTTP is for allowed networks only: events have personal data. Raises
        AddressRefused."""
        if not addresses:
            raise AddressRefused("the name has no address")
        for address in addresses:
            if self._is_listed(address):
                continue
            if not _is_public(address):
                raise AddressRefused(f"{address} is not a public address: STAKELOG_WEBHOOK_NETWORKS can allow it")
            if scheme != "https":
                raise AddressRefused(f"http:// is for networks of STAKELOG_WEBHOOK_NETWORKS, not for {address}")

    def _is_listed(self, address: AnyAddress) -> bool:
        meant = _embedded(address) or address
        return any(meant in network for network in self._networks)


def _embedded(address: AnyAddress) -> IPv4Address | None:
    """The IPv4 address in an IPv6 address, which is where a connection to it may arrive."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if any(address in network for network in _NAT64):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _COMPATIBLE and int(address) > 1:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _is_public(address: AnyAddress) -> bool:
    if isinstance(address, IPv6Address):
        if address.scope_id is not None or address.teredo is not None:
            return False
        embedded = _embedded(address)
        if embedded is not None:
            return _is_public(embedded)
    if any(address in network for network in _NEVER_PUBLIC):
        return False
    # Python 3.11 calls some of these global.
    special = (address.is_multicast, address.is_reserved, address.is_unspecified, address.is_loopback)
    return address.is_global and not (any(special) or address.is_link_local or address.is_private)

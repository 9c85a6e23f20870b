"""Signatures by the Standard Webhooks specification, version 1 of 2023 (https://www.standardwebhooks.com).

What is signed is ``<webhook-id>.<webhook-timestamp>.<body>``, by HMAC-SHA256. The header ``webhook-signature`` has
``v1,<base64>`` for each valid secret, separated by spaces: after a rotation a receiver that knows only one of the two
secrets finds its signature.
"""

import hmac
import secrets
from base64 import b64encode
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
"""The specification wants 24 to 64."""

Headers = dict[str, str]


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def shown(secret: bytes) -> str:
    """As receivers configure it."""
    return PREFIX + b64encode(secret).decode()


def signed_headers(message_id: str, time_us: int, body: bytes, keys: Sequence[bytes]) -> Headers:
    """The headers of one attempt at ``time_us``. ``keys``: all secrets that are valid then."""
    timestamp = str(time_us // 1_000_000)
    content = b"%s.%s.%s" % (message_id.encode(), timestamp.encode(), body)
    signatures = [f"v1,{b64encode(hmac.digest(key, content, 'sha256')).decode()}" for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }

"""The tables of clients and tokens. Only hashes of secrets and of refresh tokens are in them.

Each table's name begins with ``identity_``: the database may be the read model's.
"""

from typing import Any, Final

from sqlalchemy import BigInteger, Column, MetaData, String, Table, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

METADATA: Final = MetaData()
"""All tables of this package. They are created by the first use of the database."""


def ascii_text(length: int) -> TypeEngine[str]:
    """A column of ASCII text that is compared byte for byte on every database."""
    return String(length).with_variant(
        mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
    )


def long_text() -> TypeEngine[str]:
    """A column of ASCII text of up to 16 MB that is never compared."""
    return Text().with_variant(mysql.MEDIUMTEXT(charset="ascii", collation="ascii_bin"), "mysql", "mariadb")


def _required(name: str, kind: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, nullable=False, **options)


CLIENTS: Final = Table(
    "identity_client",
    METADATA,
    Column("client_id", ascii_text(64), primary_key=True),
    _required("role", ascii_text(16)),
    Column("games", long_text()),  # a JSON array; null: all
    Column("types", long_text()),
    Column("public_key", ascii_text(60)),  # null: it need not sign
    _required("secret_hash", ascii_text(255)),  # argon2id, with its parameters and salt
    _required("secret_since_us", BigInteger),
    Column("old_secret_hash", ascii_text(255)),
    Column("old_secret_until_us", BigInteger),
    _required("created_at_us", BigInteger),
    Column("disabled_at_us", BigInteger),
)
FAMILIES: Final = Table(
    "identity_family",
    METADATA,
    Column("handle_sha256", ascii_text(64), primary_key=True),  # of the part that all its refresh tokens share
    _required("family", ascii_text(43), index=True),  # in access tokens
    _required("client_id", ascii_text(64), index=True),
    Column("user_id", ascii_text(64)),  # a player's; null: the client's own tokens
    Column("secret_id", ascii_text(32)),  # the secret of the client's login; null: a player's
    _required("refresh_sha256", ascii_text(64)),  # of the refresh token that is not spent
    _required("expires_at_us", BigInteger, index=True),  # that token's
    _required("created_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
)
CHANGES: Final = Table(
    "identity_change",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # by REVOCATION_COUNT
    _required("at_us", BigInteger),
    _required("what", ascii_text(16)),
    _required("client_id", ascii_text(64)),
    _required("by_name", ascii_text(128)),
    _required("origin", ascii_text(16)),
)
REVOCATIONS: Final = Table(
    "identity_revocation",
    METADATA,
    # Numbered by REVOCATION_COUNT, so they become visible in the order of their numbers.
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("client_id", ascii_text(64)),  # all tokens of a client, and of players that it asked for …
    Column("family", ascii_text(43)),  # … or one family
    _required("expires_at_us", BigInteger, index=True),  # when the last revoked access token has expired
)
REVOCATION_COUNT: Final = Table(
    "identity_revocation_count",
    METADATA,
    Column("only", BigInteger, primary_key=True, autoincrement=False),  # 0
    _required("value", BigInteger),
)

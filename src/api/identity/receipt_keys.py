"""The public keys of receipts and seals in a data folder, read without opening its database for writing."""

import sqlite3
from contextlib import closing
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from api.identity.database import FILE
from api.identity.receipts import NotReadable, PublicKeys, octets_of


def keys_in(folder: Path) -> PublicKeys | None:
    """None: the folder has no database of keys, or no key is in it. Raises NotReadable."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT kid, public FROM identity_signing_key WHERE purpose = 'receipt'")
            keys = {kid: Ed25519PublicKey.from_public_bytes(octets_of(public)) for kid, public in rows}
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise NotReadable(f"{path}: {error}") from None
    except (sqlite3.DatabaseError, ValueError) as error:
        raise NotReadable(f"{path}: {error}") from None
    return PublicKeys(keys, refuse_unknown=False) if keys else None

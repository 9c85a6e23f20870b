"""The secrets of a set with login: made once, in its folder, readable to this user only."""

import base64
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

AUTH: Final = ("on", "off")
ADMIN: Final = "admin.json"
"""The client ``admin`` and its secret, as ``POST /v1/auth/token`` and ``--login`` take them."""
_CLUSTER: Final = "cluster.secret"
_MASTER: Final = "master.key"


def settings_of_nodes(folder: Path, auth: str) -> Mapping[str, str]:
    """STAKELOG_… of each node: who may use it, and what nodes show each other. Makes the missing files."""
    if auth == "off":
        return {"STAKELOG_AUTH": "off"}
    folder.mkdir(parents=True, exist_ok=True)
    admin = {"client_id": "admin", "client_secret": secrets.token_urlsafe(32)}
    return {
        "STAKELOG_AUTH": "on",
        "STAKELOG_ADMIN_SECRET": json.loads(_kept(folder / ADMIN, json.dumps(admin)))["client_secret"],
        "STAKELOG_CLUSTER_SECRET": _kept(folder / _CLUSTER, secrets.token_hex(32)),
        "STAKELOG_MASTER_KEY": _kept(folder / _MASTER, base64.b64encode(secrets.token_bytes(32)).decode()),
        # Else all clients behind the balancer would be one address.
        "STAKELOG_TRUSTED_PROXIES": "127.0.0.1",
    }


def how_to_log_in(folder: Path, url: str) -> str:
    """Lines to copy into a shell."""
    admin = folder / ADMIN
    return (
        f"Login is on. The client `admin` and its secret are in {admin}. An access token, for 15 minutes:\n"
        f"  curl -s {url}/v1/auth/token -H 'Content-Type: application/json' -d @{admin}\n"
        f"A day of betting: .venv/bin/stakelog demo --url {url} --login {admin}\n"
        "What is next: docs/production.md. Without login: make down, make up AUTH=off"
    )


def _kept(path: Path, new: str) -> str:
    """The text of the file, which is made with ``new`` if it is missing."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(new)
    return new

"""Whether a certificate and its key can be used, found out before the server gets them.

The server's TLS library ends the whole process (it aborts) for a key or a certificate that it cannot use, and OpenSSL
accepts some of these. So a process of its own serves with the files for a moment, and connects to itself
(``tls_trial``).
"""

import ssl
import subprocess
import sys
from typing import Final

from api.composition.network import TlsFiles

_TRIAL_WITHIN_S: Final = 60.0
"""It takes half a second. Chosen: for a machine that is busy."""


class TlsUnusable(Exception):
    """The certificate or the key cannot be used: a sentence for the operator, without anything of the key."""


def refuse_unusable(files: TlsFiles) -> None:
    """Raises TlsUnusable. Blocks until the trial has ended."""
    for setting, path in (("STAKELOG_TLS_CERT", files.certificate), ("STAKELOG_TLS_KEY", files.key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise TlsUnusable(f"{setting}={path} cannot be read: {error.strerror}") from error
    both = f"STAKELOG_TLS_CERT={files.certificate} and STAKELOG_TLS_KEY={files.key}"
    try:
        # The password is given so that OpenSSL does not ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsUnusable(f"{both} do not belong together: the key is another certificate's") from error
        raise TlsUnusable(f"{both} are not a certificate and its key, both PEM and without a password") from error
    trial = [sys.executable, "-m", "api.cli.tls_trial", str(files.certificate), str(files.key)]
    try:
        served = subprocess.run(trial, capture_output=True, timeout=_TRIAL_WITHIN_S, check=False)  # noqa: S603 - ours
    except subprocess.TimeoutExpired as error:
        raise TlsUnusable(f"a trial with {both} did not end within {_TRIAL_WITHIN_S:.0f} s") from error
    if served.returncode:
        raise TlsUnusable(
            f"{both} cannot be used by the server, which takes keys of RSA (2,048 bits or more), ECDSA (P-256, "
            "P-384) and Ed25519, and certificates of X.509 version 3"
        )

"""A certificate and a key that cannot be used are found out before the server gets them: it would end the process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448

import certificates
from api.cli.tls import TlsUnusable, refuse_unusable
from api.composition.network import TlsFiles
from api.composition.settings import SettingsError, read_settings
from certificates import Files
from unit.test_settings_of_the_folder import stakelog


def given(files: Files) -> TlsFiles:
    return TlsFiles(files.certificate, files.key)


def test_a_certificate_with_its_key_can_be_used(tmp_path: Path) -> None:
    refuse_unusable(given(certificates.write(tmp_path)))


def the_key_of_another(folder: Path) -> None:
    certificate = certificates.write(folder).certificate.read_bytes()
    certificates.write(folder).certificate.write_bytes(certificate)


def no_key(folder: Path) -> None:
    certificates.write(folder).key.unlink()


def no_certificate(folder: Path) -> None:
    certificates.write(folder).certificate.unlink()


def a_key_with_a_password(folder: Path) -> None:
    certificates.write(folder, password=b"secret")


def no_pem(folder: Path) -> None:
    certificates.write(folder).certificate.write_text("secret")


def a_kind_of_key_that_the_server_does_not_know(folder: Path) -> None:
    """OpenSSL knows it."""
    certificates.write(folder, key=ed448.Ed448PrivateKey.generate())


@pytest.mark.parametrize(
    ("spoilt_by", "says"),
    [
        (the_key_of_another, "do not belong together"),
        (no_key, r"STAKELOG_TLS_KEY=.*key\.pem cannot be read: No such file"),
        (no_certificate, r"STAKELOG_TLS_CERT=.*cert\.pem cannot be read: No such file"),
        (a_key_with_a_password, "without a password"),
        (no_pem, "both PEM"),
        (a_kind_of_key_that_the_server_does_not_know, "cannot be used by the server, which takes keys of RSA"),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_the_reason(
    tmp_path: Path, spoilt_by: Callable[[Path], None], says: str
) -> None:
    spoilt_by(tmp_path)
    with pytest.raises(TlsUnusable, match=says) as refused:
        refuse_unusable(given(certificates.files_in(tmp_path)))
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.system
def test_serve_with_such_files_is_wrong_use_and_opens_nothing(tmp_path: Path) -> None:
    the_key_of_another(tmp_path)
    files, data = certificates.files_in(tmp_path), tmp_path / "data"
    done = stakelog("serve", AUTH="off", DATA=str(data), TLS_CERT=str(files.certificate), TLS_KEY=str(files.key))
    assert done.returncode == 2
    assert done.stderr.startswith("stakelog serve: STAKELOG_TLS_CERT=")
    assert done.stderr.count("\n") == 1
    assert not data.exists()


@pytest.mark.parametrize("alone", ["STAKELOG_TLS_CERT", "STAKELOG_TLS_KEY"])
def test_a_certificate_without_a_key_or_a_key_without_one_is_refused(alone: str) -> None:
    with pytest.raises(SettingsError, match="STAKELOG_TLS_CERT and STAKELOG_TLS_KEY are needed together"):
        read_settings({alone: "/a/file"})


def test_one_process_with_tls_names_itself_with_tls_and_a_node_by_its_internal_listener() -> None:
    tls = {"STAKELOG_TLS_CERT": "/cert", "STAKELOG_TLS_KEY": "/key"}
    assert read_settings(tls).advertise == "https://127.0.0.1:8080"
    assert read_settings({**tls, "STAKELOG_INTERNAL": "127.0.0.1:9090"}).advertise == "http://127.0.0.1:9090"

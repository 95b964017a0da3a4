"""The library that the control plane needs, and the certificates that it trusts."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest
import trustme

from support.tls import chain_of, leaf
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.control_plane.requirements import require, tls_context
from trio_gw.errors import UnusableError


def test_the_library_is_needed_with_a_url_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pamqp", None)
    require("")
    with pytest.raises(UnusableError, match=r"pip install 'trio-gw\[control-plane\]'"):
        require("https://apim:9443/")


def test_the_library_is_installed_here() -> None:
    require("https://apim:9443/")


def test_ca_is_trusted_alone(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = tls_context(ControlPlaneSettings(ca="ca.pem"), tmp_path)
    assert [one["subject"] for one in context.get_ca_certs()] == [
        one["subject"] for one in _trusting(ca).get_ca_certs()
    ]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def _trusting(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return context


def test_ca_may_be_a_folder(tmp_path: Path) -> None:
    for name in ("one.pem", "two.crt", "notes.txt"):
        (tmp_path / name).write_bytes(chain_of(leaf(trustme.CA())))
    context = tls_context(ControlPlaneSettings(ca=str(tmp_path)), Path("/nowhere"))
    assert context.cert_store_stats()["x509"] == 2


def test_without_ca_the_system_is_trusted(tmp_path: Path) -> None:
    context = tls_context(ControlPlaneSettings(), tmp_path)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_nothing_is_checked_if_asked_so(tmp_path: Path) -> None:
    settings = ControlPlaneSettings(ca="missing.pem", insecure_skip_verify=True)
    context = tls_context(settings, tmp_path)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_bad_ca_names_its_key(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(UnusableError, match=r"control_plane\.ca"):
        tls_context(ControlPlaneSettings(ca="ca.pem"), tmp_path)

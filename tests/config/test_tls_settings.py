"""The settings of `[tls]`, read from a file and from the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_gw.config.settings import Certificate, Tls
from trio_gw.config.settings_file import load
from trio_gw.errors import UnusableError

if TYPE_CHECKING:
    from pathlib import Path


def test_all_of_them(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("""
[tls]
client_ca = "certs/clients"
client_certificate_header = "X-Client-Subject"
backend_ca = "/etc/ssl/backends.pem"
[[tls.certificates]]
cert = "a.pem"
key = "a.key"
[[tls.certificates]]
cert = "b.pem"
key = "b.key"
hosts = ["b.example", "*.b.example"]
""")
    assert load(file, {"TRIO_GW_TLS_CERTIFICATES_0_KEY": "other.key"}).settings.tls == Tls(
        cert="certs/mg.pem",
        key="certs/mg.key",
        certificates=(
            Certificate("a.pem", "other.key"),
            Certificate("b.pem", "b.key", ("b.example", "*.b.example")),
        ),
        client_ca="certs/clients",
        client_certificate_header="X-Client-Subject",
        backend_ca="/etc/ssl/backends.pem",
    )


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('cert = ""', 2, "tls.cert is empty"),
        ('[[tls.certificates]]\nkey = "k"', 2, "tls.certificates[0].cert is missing"),
        ('[[tls.certificates]]\ncert = ""\nkey = "k"', 3, "tls.certificates[0].cert is empty"),
        (
            '[[tls.certificates]]\ncert = "c"\nkey = "k"\nhosts = ["a:1"]',
            5,
            "tls.certificates[0].hosts: 'a:1' is not a host name",
        ),
        ('client_certificate_header = "a b"', 2, "'a b' is not a name for a header"),
        ('client_certificate_header = "x_subject"', 2, "'x_subject' is not a name for a header"),
        ('client_certificate_header = "Host"', 2, "'Host' is the name of another header"),
        (
            'client_certificate_header = "sec-websocket-key"',
            2,
            "'sec-websocket-key' is the name of another header",
        ),
        ('minimum = "1.4"', 2, "tls.minimum: '1.4' is not a version of TLS"),
        ('minimum = "1.1"', 2, "does not speak TLS 1.1 with the ciphers in tls.ciphers"),
        (
            'ciphers = "ECDHE+AES"\nminimum = "1.0"',
            3,
            "does not speak TLS 1.0 with the ciphers in tls.ciphers",
        ),
        ('ciphers = ""', 2, "tls.ciphers: OpenSSL does not accept the list"),
        ('ciphers = "ECDHE+AESGCM:NOPE"', 2, "tls.ciphers: OpenSSL knows no cipher 'NOPE'"),
        ('ciphers = "TLS_AES_128_GCM_SHA256"', 2, "a cipher suite of TLS 1.3, which are always on"),
        (
            'ciphers = "ECDHE+AESGCM:@SECLEVEL=9"',
            2,
            "tls.ciphers: OpenSSL does not accept the list",
        ),
        ('[admin]\ntls_ciphers = "NOPE"', 3, "admin.tls_ciphers: OpenSSL knows no cipher 'NOPE'"),
        ('[admin]\ntls_minimum = "2"', 3, "admin.tls_minimum: '2' is not a version of TLS"),
        ("client_ca = 1", 2, "tls.client_ca must be text in quotes"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, what: str
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[tls]\n{text}\n")
    with pytest.raises(UnusableError) as caught:
        load(file, {})
    (problem,) = caught.value.problems
    assert what in problem.what
    assert (problem.file, problem.line) == (str(file), line)

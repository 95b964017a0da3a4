"""Trust anchors from a file or a folder, and each error that is possible in them."""

from __future__ import annotations

import datetime
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from support.tls import chain_of, leaf, replace
from trio_gw.errors import UnusableError
from trio_gw.guard.anchors import load_anchors

if TYPE_CHECKING:
    from pathlib import Path


def test_a_bundle_and_a_folder_give_each_certificate_once(tmp_path: Path) -> None:
    one, two = trustme.CA(), trustme.CA()
    replace(tmp_path / "all" / "a.pem", b"text\n" + one.cert_pem.bytes() + two.cert_pem.bytes())
    replace(tmp_path / "all" / "b.CRT", two.cert_pem.bytes())
    replace(tmp_path / "all" / "readme.txt", b"no certificate")
    expected = {ssl.PEM_cert_to_DER_cert(ca.cert_pem.bytes().decode()) for ca in (one, two)}
    for path in (tmp_path / "all", tmp_path / "all" / "a.pem"):
        found = load_anchors(path, "tls.client_ca")
        assert len(found) == 2
        assert {ssl.PEM_cert_to_DER_cert(pem) for pem in found} == expected


def test_an_expired_one_is_passed_over_beside_a_valid_one(tmp_path: Path) -> None:
    ca = trustme.CA()
    replace(tmp_path / "a.pem", chain_of(leaf(ca, days=-1)) + ca.cert_pem.bytes())
    assert len(load_anchors(tmp_path / "a.pem", "tls.client_ca")) == 2
    replace(tmp_path / "a.pem", chain_of(leaf(ca, days=-1)))
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    with pytest.raises(UnusableError, match=f"expired on {yesterday:%Y-%m-%d}; put a valid"):
        load_anchors(tmp_path / "a.pem", "tls.client_ca")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "tls.backend_ca: it is empty"),
        (b"hello", "tls.backend_ca: it is not in PEM format"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "breaks off"),
        (b"x" * (1 << 20) + b"x", "larger than 1 MiB"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_file(tmp_path: Path, data: bytes, text: str) -> None:
    replace(tmp_path / "all" / "bad.pem", data)
    replace(tmp_path / "all" / "good.pem", trustme.CA().cert_pem.bytes())
    with pytest.raises(UnusableError) as caught:
        load_anchors(tmp_path / "all", "tls.backend_ca")
    (problem,) = caught.value.problems
    assert problem.file == str(tmp_path / "all" / "bad.pem")
    assert text in problem.what
    assert problem.hint


def test_a_missing_file_and_an_empty_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="cannot be read: No such file"):
        load_anchors(tmp_path / "gone.pem", "tls.client_ca")
    with pytest.raises(UnusableError, match="no certificate is in this folder"):
        load_anchors(tmp_path, "tls.client_ca")

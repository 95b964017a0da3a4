"""Certificates of a project: the files, which endpoints trust them, and problems in them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from trio_gw.config import certificates, document
from trio_gw.config.api import ClientCertificate, Endpoint
from trio_gw.config.faults import WrongError
from trio_gw.config.findings import Findings
from trio_gw.config.project import LoadedProject, load

if TYPE_CHECKING:
    from trio_gw.errors import Problem

ONE, TWO, THREE = (trustme.CA().cert_pem.bytes() for _ in range(3))
A, B = Endpoint("wss", "a.example", 443), Endpoint("wss", "b.example", 8443, "/chat")


def pem(data: bytes) -> str:
    """Return the normal form of a certificate."""
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(data.decode()))


def mapped(text: str) -> Findings:
    return Findings(document.read(text.encode(), "map.yaml"))


def entry(endpoint: str, certificate: str) -> str:
    return f"  - {{alias: x, endpoint: '{endpoint}', certificate: '{certificate}'}}\n"


# -- files -----------------------------------------------------------------------------------


def test_a_bundle_is_read_whole_and_each_certificate_once() -> None:
    data = b"Subject: one\n" + ONE + b"\r\n" + TWO.replace(b"\n", b"\r\n") + ONE
    assert certificates.read(data, "it") == (pem(ONE), pem(TWO))


def test_keys_beside_a_certificate_are_left_out() -> None:
    key = trustme.CA().private_key_pem.bytes()
    assert certificates.read(key + ONE, "it") == (pem(ONE),)


@pytest.mark.parametrize(
    ("data", "words", "hint"),
    [
        (b"hello", "it is not in PEM format", "save it in PEM"),
        (ssl.PEM_cert_to_DER_cert(ONE.decode()), "it is not in PEM format", "openssl x509"),
        (ONE.replace(b"MI", b"!!", 1), "cannot be read", "export"),
        (ONE[:200] + ONE[240:], "cannot be read", "export"),
        (b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "cannot be read", "export"),
    ],
    ids=["text", "der", "not base64", "damaged", "nothing"],
)
def test_what_is_no_certificate(data: bytes, words: str, hint: str) -> None:
    with pytest.raises(WrongError, match=words) as caught:
        certificates.read(data, "subject")
    assert caught.value.what.startswith("subject: ")
    assert hint in caught.value.hint
    assert not isinstance(caught.value, certificates.CutError)


@pytest.mark.parametrize("data", [b"", b"\0\0\n", ONE[:-40], ONE + TWO[:300]])
def test_what_may_still_be_on_its_way(data: bytes) -> None:
    with pytest.raises(certificates.CutError):
        certificates.read(data, "it")


# -- which endpoints trust them -----------------------------------------------------------------


def test_without_a_map_all_endpoints_trust_all_certificates() -> None:
    found = {"b.crt": (pem(TWO),), "a.crt": (pem(ONE), pem(TWO))}
    trust = certificates.trust(found, None, found)
    assert trust.of(A) == trust.of(B) == (pem(ONE), pem(TWO))
    assert trust.of(Endpoint("ws", "a.example", 80)) == ()


def test_the_map_gives_an_endpoint_its_own_and_the_rest_to_the_others() -> None:
    found = {"one.crt": (pem(ONE),), "sub/two.pem": (pem(TWO),), "three.pem": (pem(THREE),)}
    text = entry("wss://a.example", "one.crt") + entry(" wss://a.example:443/ ", "two.pem")
    findings = mapped(f"data:\n{text}")
    trust = certificates.trust(found, findings, found)
    assert findings.problems == ()
    assert trust.of(A) == (pem(ONE), pem(TWO))
    assert trust.of(B) == (pem(THREE),)
    assert trust.places == {A: ("data", 0, "endpoint")}
    assert not trust.missing


def told(findings: Findings) -> list[tuple[int, str]]:
    return [(problem.line, problem.severity) for problem in findings.problems]


def test_a_certificate_that_is_not_there_is_an_error() -> None:
    """Otherwise the endpoint would be verified against other certificates than intended."""
    findings = mapped("data:\n" + entry("wss://a.example", "x.crt") + entry("wss://b.example", ""))
    trust = certificates.trust({"one.crt": (pem(ONE),)}, findings, ["one.crt"])
    assert trust.missing
    assert told(findings) == [(2, "error"), (3, "error")]


def test_two_files_of_one_name_are_no_answer() -> None:
    found = {"a/x.crt": (pem(ONE),), "b/x.crt": (pem(TWO),)}
    findings = mapped("data:\n" + entry("wss://a.example", "x.crt"))
    assert certificates.trust(found, findings, found).missing
    findings = mapped("data:\n" + entry("wss://a.example", "b/x.crt"))
    assert certificates.trust(found, findings, found).of(A) == (pem(TWO),)


def test_a_wrong_endpoint_is_a_warning_and_its_certificate_is_nobodys() -> None:
    findings = mapped("data:\n" + entry("ftp://a.example", "one.crt"))
    trust = certificates.trust({"one.crt": (pem(ONE),)}, findings, ["one.crt"])
    assert told(findings) == [(2, "warning")]
    assert trust.of(A) == ()


# -- client certificates -----------------------------------------------------------------------


def test_client_certificates() -> None:
    found = {"one.crt": (pem(ONE),), "sub/two.pem": (pem(TWO),)}
    text = "data:\n  - {alias: partner, certificate: two.pem, tierName: Gold}\n"
    findings = mapped(text + "  - {certificate: gone.pem}\n")
    assert certificates.clients(found, findings) == (
        ClientCertificate("partner", pem(TWO), "Gold"),
        ClientCertificate("one", pem(ONE)),
    )
    assert told(findings) == [(3, "warning")]
    assert certificates.clients(found, None)[1] == ClientCertificate("two", pem(TWO))


# -- in a project ------------------------------------------------------------------------------

API = b"""data:
  name: N
  version: 1.0.0
  context: /n
  type: WS
  endpointConfig: {production_endpoints: [{url: 'wss://a.example'}, {url: 'wss://b.example'}]}
"""
DEFINITION = b"asyncapi: 2.0.0\nchannels: {/a: {publish: {}}}\n"


def project(**files: bytes | str) -> LoadedProject:
    named = {
        name.replace("__", "/").replace("_dot_", "."): data if isinstance(data, bytes) else
        data.encode()
        for name, data in files.items()
    }  # fmt: skip
    return load({"api.yaml": API, "Definitions/asyncapi.yaml": DEFINITION, **named}, "p")


def texts(loaded: LoadedProject) -> list[str]:
    problems: tuple[Problem, ...] = loaded.problems
    return [f"{problem.file}:{problem.severity}" for problem in problems]


MAP = "Endpoint-certificates__endpoint_certificates_dot_yaml"


def test_a_project_trusts_its_certificates() -> None:
    files: dict[str, bytes | str] = {
        "Endpoint-certificates__one_dot_crt": ONE,
        "Endpoint-certificates__two_dot_pem": TWO,
        "Endpoint-certificates__interceptors__three_dot_crt": b"not read",
        MAP: "data:\n" + entry("wss://a.example", "one.crt"),
        "Client-certificates__c_dot_crt": THREE,
    }
    loaded = project(**files)
    assert loaded.problems == ()
    assert loaded.project is not None
    assert loaded.project.production is not None
    anchors = [endpoint.trust for endpoint in loaded.project.production.endpoints]
    assert anchors == [(pem(ONE),), (pem(TWO),)]
    assert loaded.project.client_certificates == (ClientCertificate("c", pem(THREE)),)


@pytest.mark.parametrize(("written", "named"), [("/v2/", "/v2"), ("/v2", "/v2/"), ("", "/")])
def test_a_slash_at_the_end_of_an_endpoint_is_no_other_one_for_the_map(
    written: str, named: str
) -> None:
    files: dict[str, bytes | str] = {
        "Endpoint-certificates__one_dot_crt": ONE,
        "Endpoint-certificates__two_dot_crt": TWO,
        "api_dot_yaml": API.replace(b"wss://a.example", b"wss://a.example" + written.encode()),
        MAP: "data:\n" + entry(f"wss://a.example{named}", "one.crt"),
    }
    loaded = project(**files)
    assert loaded.problems == ()
    assert loaded.project is not None
    assert loaded.project.production is not None
    first = loaded.project.production.endpoints[0]
    assert (first.path, first.trust) == (written, (pem(ONE),))


def test_a_map_for_an_endpoint_that_nobody_calls_is_a_warning() -> None:
    files: dict[str, bytes | str] = {
        "Endpoint-certificates__one_dot_crt": ONE,
        MAP: "data:\n" + entry("wss://c.example", "one.crt"),
    }
    loaded = project(**files)
    assert texts(loaded) == ["p/Endpoint-certificates/endpoint_certificates.yaml:warning"]
    assert loaded.project is not None


@pytest.mark.parametrize("folder", ["Endpoint-certificates", "Client-certificates"])
def test_a_file_that_is_no_certificate_keeps_the_project_from_loading(folder: str) -> None:
    loaded = project(**{f"{folder}__x_dot_crt": b"hello"})
    assert loaded.project is None
    assert texts(loaded) == [f"p/{folder}/x.crt:error"]
    assert not loaded.incomplete
    assert project(**{f"{folder}__x_dot_crt": ONE[:300]}).incomplete


def test_a_map_before_its_certificate_is_incomplete() -> None:
    loaded = project(**{MAP: "data:\n" + entry("wss://a.example", "one.crt")})
    assert loaded.project is None
    assert loaded.incomplete


def test_two_folders_of_one_kind() -> None:
    names = ("a__Endpoint-certificates__x_dot_crt", "b__Endpoint-certificates__y_dot_crt")
    loaded = project(**dict.fromkeys(names, ONE))
    assert loaded.project is None
    assert "same kind of folder" in loaded.problems[0].what

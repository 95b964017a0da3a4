"""The certificates of a project: trust anchors for its backends, and client certificates.

Called by `project` with the bytes of each certificate file and with their map. OpenSSL itself
checks each certificate, so that errors are found before a handshake.
spec: project-format §8.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import endpoint
from trio_gw.config.api import ClientCertificate, Endpoint
from trio_gw.config.convert import convert
from trio_gw.config.faults import WrongError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"
_WHERE = "put the certificate file next to the map, with a name that ends in `.crt` or `.pem`"


class CutError(WrongError):
    """A truncated certificate file: perhaps it is still being copied."""


class _CertificateEntry(msgspec.Struct, frozen=True, rename="camel"):
    alias: str = ""
    endpoint: str = ""
    certificate: str = ""
    tier_name: str = ""


class _Map(msgspec.Struct, frozen=True):
    data: tuple[_CertificateEntry, ...] | None = None


class EndpointTrust(msgspec.Struct, frozen=True):
    """The trusted certificates by endpoint; `rest` is for all other endpoints.

    Endpoints are without a trailing slash. `places` are the places of the endpoints in the map;
    `missing`: it names a file that does not exist (yet).
    """

    own: dict[Endpoint, tuple[str, ...]] = {}
    rest: tuple[str, ...] = ()
    places: dict[Endpoint, Path] = {}
    missing: bool = False

    def of(self, backend: Endpoint) -> tuple[str, ...]:
        """Return the certificates for an endpoint; none for one without TLS."""
        if backend.scheme != "wss":
            return ()
        return self.own.get(without_slash(backend), self.rest)


def without_slash(backend: Endpoint) -> Endpoint:
    """Return the form of an endpoint in the map, without a trailing slash."""
    return msgspec.structs.replace(backend, path=backend.path.rstrip("/"))


def read(data: bytes, subject: str) -> tuple[str, ...]:
    """Read the certificates of a PEM file, one text each; other content is left out.

    Messages begin with `subject`. Raises `WrongError` if there is none or one cannot be read,
    `CutError` if the file is truncated.
    """
    found: dict[str, None] = {}
    start = data.find(_BEGIN)
    while start >= 0:
        end = data.find(_END, start)
        if end < 0:
            raise CutError(f"{subject}: it breaks off in a certificate", "copy the whole file")
        found[_normal(data[start + len(_BEGIN) : end], subject)] = None
        start = data.find(_BEGIN, end)
    if found:
        return tuple(found)
    if not data.strip(b"\0 \t\r\n"):
        raise CutError(f"{subject}: it is empty", "copy the whole file, or remove it")
    hint = "save it in PEM format: text from `-----BEGIN CERTIFICATE-----` on"
    if data.startswith(b"\x30"):  # the first bytes of every certificate in binary form
        hint = "convert it: `openssl x509 -inform der -in old.crt -out new.crt`"
    raise WrongError(f"{subject}: it is not in PEM format", hint)


def _normal(body: bytes, subject: str) -> str:
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
        # A new context trusts nothing and opens nothing; it only checks the certificate.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except (binascii.Error, ssl.SSLError, ValueError):
        what = f"{subject}: it holds a certificate that cannot be read"
        raise WrongError(what, "export the certificate again and replace the file") from None
    return ssl.DER_cert_to_PEM_cert(der)


def trust(
    found: Mapping[str, tuple[str, ...]], findings: Findings | None, folder: Iterable[str]
) -> EndpointTrust:
    """Return the trust by endpoint, from the certificates by file name and the map, if any.

    `folder` lists all certificate files, also the unreadable ones. Faults go to `findings`.
    """
    own: dict[Endpoint, dict[str, None]] = {}
    put: set[tuple[Endpoint, str]] = set()
    places: dict[Endpoint, Path] = {}
    used: set[str] = set()
    names = _FolderFiles(folder)
    missing = False
    for path, entry in _entries(findings):
        assert findings is not None
        name = names.find(entry.certificate)
        if name is None:
            missing = True
            what = f"the certificate `{entry.certificate[:80]}` is not in the folder"
            if not entry.certificate.strip():
                what = "`certificate` is missing: which file is meant?"
            findings.error((*path, "certificate"), what, _WHERE)
            continue
        used.add(name)
        try:
            backend = without_slash(endpoint.parse(entry.endpoint))
        except WrongError as error:
            findings.warn((*path, "endpoint"), f"`endpoint`: {error.what}: not used", error.hint)
            continue
        if (backend, name) not in put:
            put.add((backend, name))
            own.setdefault(backend, {}).update(dict.fromkeys(found.get(name, ())))
        places.setdefault(backend, (*path, "endpoint"))
    rest = (pem for name in sorted(found.keys() - used) for pem in found[name])
    trusted = {backend: tuple(each) for backend, each in own.items()}
    return EndpointTrust(trusted, tuple(dict.fromkeys(rest)), places, missing)


def clients(
    found: Mapping[str, tuple[str, ...]], findings: Findings | None
) -> tuple[ClientCertificate, ...]:
    """Return the client certificates, those of the map first."""
    certificates = []
    used: set[str] = set()
    names = _FolderFiles(found)
    for path, entry in _entries(findings):
        assert findings is not None
        name = names.find(entry.certificate)
        if name is None:
            what = f"the client certificate `{entry.certificate[:80]}` is not in the folder"
            findings.warn((*path, "certificate"), what, _WHERE)
            continue
        if name in used:  # otherwise a file would be in memory as often as it is named
            what = f"the client certificate `{name[:80]}` is named twice; the first entry counts"
            findings.warn((*path, "certificate"), what, "remove one of the entries")
            continue
        used.add(name)
        alias = entry.alias or _alias(name)
        certificates.append(ClientCertificate(alias, "".join(found[name]), entry.tier_name))
    certificates += [
        ClientCertificate(_alias(name), "".join(found[name]))
        for name in sorted(found.keys() - used)
    ]
    return tuple(certificates)


def _entries(findings: Findings | None) -> list[tuple[Path, _CertificateEntry]]:
    if findings is None:
        return []
    entries = convert(_Map, findings).data or ()
    if findings.spoilt(("data",)):
        return []  # Items were left out, so that indexes have changed.
    return [(("data", index), entry) for index, entry in enumerate(entries)]


class _FolderFiles:
    """The files of a folder, found by their paths in it, else by unique names."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._alone: dict[str, str | None] = {}
        for name in self._names:
            last = name.rpartition("/")[2]
            self._alone[last] = None if last in self._alone else name

    def find(self, text: str) -> str | None:
        """Return the file with this path or name, if there is one."""
        wanted = text.strip()
        return wanted if wanted in self._names else self._alone.get(wanted)


def _alias(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]

"""Trust anchors of the settings: one PEM file, or a folder of them.

Read for `tls.client_ca` and `tls.backend_ca`, at start and when they change. Blocks.
"""

from __future__ import annotations

import datetime
import ssl
from typing import TYPE_CHECKING

from cryptography import x509

from trio_gw.config import certificates
from trio_gw.config.faults import WrongError
from trio_gw.errors import Problem, UnusableError
from trio_gw.guard.certificates import expiry, read

if TYPE_CHECKING:
    from pathlib import Path

ENDINGS = (".pem", ".crt")


def load_anchors(path: Path, setting: str) -> tuple[str, ...]:
    """Read the trust anchors, one PEM text each. Messages begin with `setting`.

    Raises UnusableError with every file that cannot be used, and if all certificates expired.
    """
    problems: list[Problem] = []
    found: dict[str, None] = {}
    files = _files(path, setting)
    for file in files:
        try:
            found |= dict.fromkeys(certificates.read(read(file, setting), setting))
        except UnusableError as error:
            problems += error.problems
        except WrongError as error:
            problems.append(Problem(str(file), 0, 0, error.what, error.hint))
    if not problems:
        problems += _expired(path, found)
    if problems:
        raise UnusableError(problems)
    return tuple(found)


def _files(path: Path, setting: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        files = sorted(file for file in path.iterdir() if file.name.lower().endswith(ENDINGS))
    except OSError as error:
        what = f"{setting} cannot be listed: {error.strerror}"
        raise UnusableError([Problem(str(path), 0, 0, what, "check its mode")]) from None
    if not files:
        what = f"{setting}: no certificate is in this folder"
        hint = "put certificate files into the folder, with names that end in .pem or .crt"
        raise UnusableError([Problem(str(path), 0, 0, what, hint)])
    return files


def _expired(path: Path, found: dict[str, None]) -> list[Problem]:
    """Raise only if none is valid: bundles contain expired and future certificates."""
    now = datetime.datetime.now(datetime.UTC)
    faults = []
    for pem in found:
        try:
            certificate = x509.load_der_x509_certificate(ssl.PEM_cert_to_DER_cert(pem))
            fault = expiry(path, certificate, now)
        except ValueError:  # OpenSSL can read it, and OpenSSL will use it
            fault = None
        if fault is None:
            return []
        faults.append(Problem(fault.file, 0, 0, fault.what, "put a valid certificate there"))
    return faults[:1]

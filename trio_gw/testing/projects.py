"""The projects and settings of a gateway under test, put into a folder of its own. Blocks."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from trio_gw.config.overrides import fingerprint
from trio_gw.config.settings import Issuer, Listen, Settings
from trio_gw.config.settings_file import load, parse
from trio_gw.errors import Problem, UnusableError, has_errors, renamed
from trio_gw.feed.load_folder import load_once
from trio_gw.feed.origins import APIS
from trio_gw.guard.certificates import ensure_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.api import ApiProject, Endpoint

StrPath = str | os.PathLike[str]
Projects = StrPath | Iterable[StrPath]
SettingsSource = Mapping[str, Any] | StrPath

_API_FILES = frozenset(("definitions", "api.yaml", "api.yml", "api.json"))
_lock = threading.Lock()


class ProblemsError(UnusableError):
    """What keeps the gateway from serving these projects or settings: `problems`, and as text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__(problems)
        count = len(self.problems)
        lines = [f"{count} problem{'s' if count != 1 else ''}:", *map(str, self.problems)]
        self.args = ("\n  ".join(lines),)


class Prepared(NamedTuple):
    """What a gateway is started with. `shown` says where the copy of each project came from."""

    settings: Settings
    base: Path
    certificate: Path
    key: Path
    apis: Path
    shown: dict[str, str]
    problems: tuple[Problem, ...]
    projects: tuple[ApiProject, ...]

    def named(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        """Name the files of problems as the test named them."""
        found = tuple(problems)
        for copy, given in self.shown.items():
            for root in (self.settings.apis, APIS):
                found = renamed(found, f"{root}/{copy}", given)
        return found


def prepare(folder: Path, projects: Projects | None, source: SettingsSource | None) -> Prepared:
    """Copy the projects into `folder` and read the settings.

    Raises `ProblemsError` if the settings or a project cannot be used.
    """
    certificate, key = folder / "certs" / "mg.pem", folder / "certs" / "mg.key"
    _copy_certificate(certificate, key)
    try:
        settings, base = _settings(folder, source, certificate, key)
    except UnusableError as error:
        raise ProblemsError(error.problems) from None
    if projects is None:
        projects = () if source is None or isinstance(source, Mapping) else base / settings.apis
    apis = folder / "apis"
    apis.mkdir()
    shown = _copy(projects, apis)
    settings = msgspec.structs.replace(
        settings, apis=str(apis), deployed=str(folder / "deployed"), persist=False
    )
    found, problems = load_once(apis, label=str(apis))
    prepared = Prepared(
        settings, base, certificate, key, apis, shown, tuple(problems), tuple(found.values())
    )
    problems = prepared.named(problems)
    if has_errors(problems):
        raise ProblemsError(problems)
    return prepared._replace(problems=problems)


def _settings(
    folder: Path, source: SettingsSource | None, certificate: Path, key: Path
) -> tuple[Settings, Path]:
    """Read the settings, and keep the gateway under test from what a test has no use for."""
    # Settings come from the test alone; `${NAME}` is still taken from the environment.
    environ = {name: text for name, text in os.environ.items() if not name.startswith("TRIO_GW_")}
    if source is None or isinstance(source, Mapping):
        settings, base = parse(dict(source or {}), environ).settings, folder
    else:
        loaded = load(Path(source), environ)
        usual = Settings()
        settings = msgspec.structs.replace(
            loaded.settings, analytics=usual.analytics, git=usual.git, tracing=usual.tracing
        )
        base = loaded.base
    own = settings.testkey.issuer
    issuers = [each for each in settings.issuers if each.issuer != own]
    issuers.append(Issuer(own, name="trio_gw.testing", certificate=str(certificate)))
    return (
        msgspec.structs.replace(
            settings,
            workers=1,
            listen=Listen(http="localhost:0", https="localhost:0", admin=""),
            metrics=msgspec.structs.replace(settings.metrics, listen=""),
            tls=msgspec.structs.replace(settings.tls, cert=str(certificate), key=str(key)),
            issuers=tuple(issuers),
        ),
        base,
    )


def _copy(projects: Projects, apis: Path) -> dict[str, str]:
    """Copy projects, and those in folders of projects; returns the names they were given by."""
    paths = [projects] if isinstance(projects, str | os.PathLike) else list(projects)
    found: list[Path] = []
    problems = []
    for path in map(Path, paths):
        inside = _inside(path)
        if not inside:
            what = "there is no API project here"
            hint = "name a project, which has an `api.yaml`, or a folder of projects"
            problems.append(Problem(str(path), 0, 0, what, hint))
        found += inside
    if problems:
        raise ProblemsError(problems)
    shown = {}
    for path in found:
        name, number = path.resolve().name, 1
        while name in shown:
            number += 1
            name = f"{path.resolve().stem}-{number}{path.suffix}"
        if path.is_dir():
            shutil.copytree(path, apis / name)
        else:
            shutil.copy(path, apis / name)
        shown[name] = str(path)
    return shown


def _inside(path: Path) -> list[Path]:
    """List the projects that a path stands for."""
    if path.is_file():
        return [path] if path.suffix == ".zip" else []
    if not path.is_dir():
        return []
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if _API_FILES & {entry.name.lower() for entry in entries}:
        return [path]
    return [entry for entry in entries if entry.is_dir() or entry.suffix == ".zip"]


@functools.cache
def _certificate() -> tuple[bytes, bytes]:
    """Make a certificate and its key, once for all gateways: an RSA key takes a while."""
    with tempfile.TemporaryDirectory() as folder:
        cert, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
        ensure_certificate(cert, key, datetime.datetime.now(datetime.UTC))
        return cert.read_bytes(), key.read_bytes()


def _copy_certificate(certificate: Path, key: Path) -> None:
    with _lock:
        chain, secret = _certificate()
    certificate.parent.mkdir(mode=0o700)
    certificate.write_bytes(chain)
    key.write_bytes(secret)
    key.chmod(0o600)


@contextlib.contextmanager
def redirected(projects: Iterable[ApiProject], url_of: Mapping[str, str] | str) -> Iterator[None]:
    """Send the APIs to other backends: one for all, or one for each `<name>:<version>`.

    This sets the variables that replace the backends of an API (`api_<hash>_prod_endpoint_0`) in
    the environment of this process. Path and query of the project's endpoints stay.
    """
    variables = {}
    for project in projects:
        url = url_of if isinstance(url_of, str) else url_of.get(project.title)
        if url is None:
            continue
        prefix = f"api_{fingerprint(project.name, project.version)}"
        for kind, cluster in (("prod", project.production), ("sand", project.sandbox)):
            for number, endpoint in enumerate(() if cluster is None else cluster.endpoints):
                variables[f"{prefix}_{kind}_endpoint_{number}"] = _moved(endpoint, url)
    if unknown := set(() if isinstance(url_of, str) else url_of) - {
        project.title for project in projects
    }:
        raise LookupError(f"no API is named {', '.join(sorted(unknown))}")
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _moved(endpoint: Endpoint, url: str) -> str:
    query = f"?{endpoint.query}" if endpoint.query else ""
    return f"{url.rstrip('/')}{endpoint.path}{query}"

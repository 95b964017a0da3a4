"""The backends of a draft, as a form shows them and changes them. Pure.

spec: project-format §4.4, §8.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from trio_gw.config.text_edit import NotEditableError
from trio_gw.portal.editing.draft_files import BadFilesError, check_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.portal.editing.draft_files import DraftFiles

BackendSide = Literal["production", "sandbox"]
CONFIG = ("data", "endpointConfig")
_CERTIFICATES = "Endpoint-certificates"
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
MOST_ENDPOINTS = 50


class SideForm(msgspec.Struct, frozen=True):
    """The backends of one side. The password itself is never shown."""

    urls: tuple[str, ...] = ()
    failovers: tuple[str, ...] = ()
    timeout: int | None = None
    retries: int | None = None
    username: str = ""
    has_password: bool = False


def form(files: DraftFiles, side: BackendSide) -> SideForm:
    """Read the backends of one side."""
    targets = _listed(files.value("api", *CONFIG, f"{side}_endpoints"))
    spares = _listed(files.value("api", *CONFIG, f"{side}_failovers"))
    config = targets[0].get("config") if targets else None
    config = config if isinstance(config, dict) else {}
    security = files.value("api", *CONFIG, "endpoint_security", side)
    security = security if isinstance(security, dict) else {}
    enabled = str(security.get("enabled", "")).casefold() == "true"
    return SideForm(
        tuple(str(each.get("url") or "") for each in targets),
        tuple(str(each.get("url") or "") for each in spares),
        _number(config.get("actionDuration")),
        _number(config.get("retryTimeOut")),
        str(security.get("username") or "") if enabled else "",
        has_password=enabled and bool(security.get("password")),
    )


def _listed(value: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a value of a file
    listed = value if isinstance(value, list) else [value]
    return [each for each in listed if isinstance(each, dict) and each]


def _number(value: object) -> int | None:
    text = str(value).strip()
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def set_endpoints(
    files: DraftFiles, side: BackendSide, urls: Sequence[str], failovers: Sequence[str]
) -> None:
    """Name the backends of one side; what else is said about a URL stays with it."""
    if len(urls) + len(failovers) > MOST_ENDPOINTS:
        raise NotEditableError(f"more than {MOST_ENDPOINTS} endpoints")
    before = files.value("api", *CONFIG, f"{side}_endpoints")
    held = _listed(before)
    if len(urls) == 1 and isinstance(before, dict) and before:
        files.set("api", (*CONFIG, f"{side}_endpoints", "url"), urls[0])
    else:
        known = {str(each.get("url")): each for each in held}
        listed: list[Any] = [{**known.get(url, {}), "url": url} for url in urls]
        if listed and held and "config" in held[0]:
            listed[0].setdefault("config", held[0]["config"])
        value = listed[0] if len(listed) == 1 else listed or None
        files.set("api", (*CONFIG, f"{side}_endpoints"), value)
    spares: list[Any] = [{"url": url} for url in failovers]
    files.set("api", (*CONFIG, f"{side}_failovers"), spares or None)
    kind = "failover" if spares else "load_balance" if len(urls) > 1 else "ws"
    if files.value("api", *CONFIG, "endpoint_type") in ("failover", "load_balance", "ws", None):
        files.set("api", (*CONFIG, "endpoint_type"), kind)


def set_calling(
    files: DraftFiles, side: BackendSide, timeout: int | None, retries: int | None
) -> None:
    """Set the timeout in milliseconds and the number of retries of one side."""
    place = (*CONFIG, f"{side}_endpoints")
    before = files.value("api", *place)
    if not _listed(before):
        raise NotEditableError(f"there is no {side} endpoint")
    config: dict[str, Any] = {}
    if timeout is not None:
        config["actionDuration"] = str(timeout)
    if retries is not None:
        config["retryTimeOut"] = str(retries)
    if isinstance(before, dict):
        held = before.get("config")
        others = held if isinstance(held, dict) else {}
        rest = {k: v for k, v in others.items() if k not in ("actionDuration", "retryTimeOut")}
        files.set("api", (*place, "config"), {**rest, **config} or None)
        return
    targets: list[Any] = [dict(each) for each in before]
    targets[0].pop("config", None)
    if config:
        targets[0]["config"] = config
    files.set("api", place, targets)


def set_credential(files: DraftFiles, side: BackendSide, username: str, password: str) -> None:
    """Set the credential of one side; an empty password leaves the one that is there."""
    place = (*CONFIG, "endpoint_security", side)
    held = files.value("api", *place)
    if not username:
        if isinstance(held, dict):
            files.set("api", (*place, "enabled"), False)
            if held.get("password"):
                files.set("api", (*place, "password"), "")
        return
    if not password and not (isinstance(held, dict) and held.get("password")):
        raise NotEditableError("the credential has no password")
    for key, value in (("enabled", True), ("type", "BASIC"), ("username", username)):
        files.set("api", (*place, key), value)
    if password:
        files.set("api", (*place, "password"), password)


def add_certificate(files: DraftFiles, endpoint: str, name: str, pem: str) -> None:
    """Add a certificate to trust for one backend."""
    found = _PEM.findall(pem)
    if not found or "PRIVATE KEY" in pem:
        raise NotEditableError("this is no PEM file with certificates alone")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name.rpartition("/")[2]).strip(".-") or "backend"
    plain = f"{plain.removesuffix('.pem').removesuffix('.crt')[:60]}.pem"
    map_path = files.path_of("endpoint map")
    folder = map_path.rpartition("/")[0] or _CERTIFICATES
    path = f"{folder}/{plain}"
    try:
        check_path(path)
    except BadFilesError as error:
        raise NotEditableError(str(error)) from None
    files.add(path, "\n".join(found) + "\n")
    if not map_path:
        text = "type: endpoint_certificates\nversion: v4.1.0\ndata: []\n"
        files.add(f"{folder}/endpoint_certificates.yaml", text)
    listed = files.value("endpoint map", "data")
    others: list[Any] = [
        each
        for each in (listed if isinstance(listed, list) else ())
        if not (isinstance(each, dict) and each.get("certificate") == plain)
    ]
    alias = plain.removesuffix(".pem")
    entry: dict[str, Any] = {"alias": alias, "endpoint": endpoint, "certificate": plain}
    files.set("endpoint map", ("data",), [*others, entry])

"""`endpointConfig` of an api.yaml: the backends of each side, and how they are called.

Called by `apiyaml`. The result is a `SideBackends`; the AsyncAPI definition and the environment may
still change it before it becomes a `Cluster`. spec: project-format §4.4, §6.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import endpoint
from trio_gw.config.api import BasicAuth, Cluster, Endpoint
from trio_gw.config.faults import WrongError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

CONFIG: Path = ("data", "endpointConfig")

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    """Both are text in exported projects; `retry_time_out` is a number of retries."""

    action_duration: str | None = None
    retry_time_out: str | None = None


class _EndpointTarget(msgspec.Struct, frozen=True):
    url: str | None = None
    config: _Config | None = None


class _Security(msgspec.Struct, frozen=True):
    enabled: bool | str = False
    type: str = ""
    username: str = ""
    password: str = ""


class _Securities(msgspec.Struct, frozen=True):
    production: _Security | None = None
    sandbox: _Security | None = None


_EndpointTargets = _EndpointTarget | tuple[_EndpointTarget, ...] | None


class EndpointConfig(msgspec.Struct, frozen=True):
    """The part of an api.yaml that is read here."""

    production_endpoints: _EndpointTargets = None
    sandbox_endpoints: _EndpointTargets = None
    production_failovers: _EndpointTargets = None
    sandbox_failovers: _EndpointTargets = None
    endpoint_security: _Securities | None = None


class SideBackends(msgspec.Struct, frozen=True):
    """The backends of one side; `endpoints` may be empty.

    `basic` is None unless the api.yaml enables it.
    """

    endpoints: tuple[Endpoint, ...] = ()
    failover: bool = False
    timeout: float | None = None
    retries: int = 0
    basic: BasicAuth | None = None

    def replaced(self, *endpoints: Endpoint) -> SideBackends:
        """Return this with other endpoints, called in the same way (spec: project-format §6)."""
        return msgspec.structs.replace(self, endpoints=endpoints, failover=False)

    def cluster(self, trust: Callable[[Endpoint], tuple[str, ...]]) -> Cluster | None:
        """Make a cluster of it; `trust` returns the trusted certificates for an endpoint."""
        if not self.endpoints:
            return None
        endpoints = tuple(
            msgspec.structs.replace(each, trust=trust(each)) for each in self.endpoints
        )
        return Cluster(endpoints, self.failover, self.timeout, self.retries, self.basic)


def read(side: str, config: EndpointConfig, findings: Findings) -> SideBackends:
    """Read one side, `production` or `sandbox`; faults go to `findings`."""
    path: Path = (*CONFIG, f"{side}_endpoints")
    targets = _listed(getattr(config, f"{side}_endpoints"), path, findings)
    spare_path: Path = (*CONFIG, f"{side}_failovers")
    spares = _listed(getattr(config, f"{side}_failovers"), spare_path, findings)
    if spares and not targets and not findings.spoilt(path):
        what = f"`{side}_failovers` without `{side}_endpoints` is not used"
        findings.warn(spare_path, what, f"move the first one to `{side}_endpoints`")
        spares = []
    if spares and len(targets) > 1:
        what = f"with `{side}_failovers`, the first of the `{side}_endpoints` gets all traffic"
        findings.warn(path, what, "leave one endpoint there, or remove the failovers")
    timeout, retries = _how(targets, findings)
    for at, target in targets[1:] + spares:
        if target.config not in (None, targets[0][1].config if targets else None):
            what = f"only the `config` of the first of the `{side}_endpoints` counts"
            findings.warn((*at, "config"), what, "move what matters there, or remove it")
    return SideBackends(
        endpoints=tuple(
            found
            for at, target in targets + spares
            if (found := _endpoint(side, at, target, findings)) is not None
        ),
        failover=bool(spares),
        timeout=timeout,
        retries=retries,
        basic=_basic(side, config.endpoint_security, findings),
    )


def check_basic(basic: BasicAuth) -> None:
    """Check what RFC 7617 §2 forbids. Raises `WrongError` without the credential."""
    if ":" in basic.username:
        raise WrongError("the user name holds a colon", "choose one without: it ends at the colon")
    if _CONTROL.search(basic.username + basic.password):
        what = "user name or password holds a control character or a line break"
        raise WrongError(what, "write both as plain text on one line")


def _listed(
    targets: _EndpointTargets, path: Path, findings: Findings
) -> list[tuple[Path, _EndpointTarget]]:
    if targets is None or findings.document.value(path) == {}:
        return []
    if isinstance(targets, _EndpointTarget):
        return [(path, targets)]
    if findings.spoilt(path):
        return []  # Items may have been left out, so that indexes have changed.
    return [((*path, index), target) for index, target in enumerate(targets)]


def _endpoint(side: str, at: Path, target: _EndpointTarget, findings: Findings) -> Endpoint | None:
    if findings.spoilt((*at, "url")):
        return None
    url = target.url or ""
    if "#" in url:
        what = f"{side} endpoint: what follows `#` in the URL is not sent"
        findings.warn((*at, "url"), what, "remove it")
    if url.strip() == "default":
        what = f"{side} endpoint: `url: default` is a dynamic endpoint, which a policy of API"
        what += " Manager would choose for each request: not supported, no handshake will succeed"
        findings.warn(
            (*at, "url"), what, "write the URL of the backend, like `wss://host:8443/chat`"
        )
    try:
        return endpoint.parse(url)
    except WrongError as error:
        findings.wrong((*at, "url"), f"{side} endpoint", error)
        return None


def _how(
    targets: list[tuple[Path, _EndpointTarget]], findings: Findings
) -> tuple[float | None, int]:
    """Read the timeout in seconds and the retry count from the first entry.

    If the timeout is not an integer, the retry count is ignored too, as in the reference system.
    """
    if not targets or (config := targets[0][1].config) is None:
        return None, 0
    path: Path = (*targets[0][0], "config")
    duration = (config.action_duration or "").strip()
    timeout = None
    if duration:
        if not _INTEGER.fullmatch(duration):
            what = f"`actionDuration` is not a whole number ({duration[:40]!r}): not used, and"
            what += " `retryTimeOut` neither"
            findings.warn((*path, "actionDuration"), what, 'write milliseconds, like "30000"')
            return None, 0
        timeout = int(duration) / 1000
        if timeout <= 0:
            what = "`actionDuration` is not above 0: the gateway's own timeout applies"
            findings.warn((*path, "actionDuration"), what, 'write milliseconds, like "30000"')
            timeout = None
    count = (config.retry_time_out or "").strip()
    if count and (not _INTEGER.fullmatch(count) or int(count) < 0):
        what = f"`retryTimeOut` is not a number of retries ({count[:40]!r}): nothing is retried"
        hint = 'write a count from 0 on, like "2"; despite its name it is not a time'
        findings.warn((*path, "retryTimeOut"), what, hint)
        return timeout, 0
    return timeout, int(count or 0)


def _basic(side: str, blocks: _Securities | None, findings: Findings) -> BasicAuth | None:
    """Read `endpoint_security`; only BASIC has an effect."""
    block: _Security | None = getattr(blocks, side) if blocks is not None else None
    path: Path = (*CONFIG, "endpoint_security", side)
    if block is None:
        return None
    enabled = str(block.enabled).strip().lower()
    if enabled not in ("true", "false", ""):
        what = f"`enabled` must be `true` or `false`, this is {enabled[:40]!r}"
        findings.error((*path, "enabled"), what, "write `enabled: true` or `enabled: false`")
    if enabled != "true":
        return None
    kind = block.type.strip()
    if kind.upper() != "BASIC":
        what = f"`endpoint_security` of type `{kind[:40]}` has no effect: {side} backends are"
        what += " called without it"
        if not kind:
            what = f"`endpoint_security` has no `type`, so it has no effect on {side} backends"
        hint = "write `type: BASIC` with `username` and `password`, or `enabled: false`"
        findings.warn((*path, "type"), what, hint)
        return None
    basic = BasicAuth(block.username, block.password)
    try:
        check_basic(basic)
    except WrongError as error:
        findings.wrong(path, f"`endpoint_security` of {side}", error)
        return None
    return basic

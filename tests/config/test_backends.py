"""`endpointConfig`: backends, failovers, timeouts, retries and credentials of each side."""

from __future__ import annotations

import pytest

from trio_gw.config import backends, document, endpoint
from trio_gw.config.api import BasicAuth, Cluster, Endpoint
from trio_gw.config.backends import EndpointConfig, SideBackends
from trio_gw.config.convert import convert
from trio_gw.config.faults import WrongError
from trio_gw.config.findings import Findings

A, B, C = (Endpoint("ws", name, 80) for name in "abc")


def read(text: str, side: str = "production") -> tuple[SideBackends, list[str]]:
    """Read a side of an `endpointConfig`, which begins on line 3."""
    findings = Findings(document.read(f"data:\n endpointConfig:\n  {text}\n".encode(), "f"))
    config = convert(EndpointConfig, findings, backends.CONFIG)
    found = backends.read(side, config, findings)
    assert all(problem.hint and problem.line == 3 for problem in findings.problems)
    return found, [f"{problem.severity}: {problem.what}" for problem in findings.problems]


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("production_endpoints: {url: ws://a}", SideBackends((A,))),
        ("production_endpoints: [{url: ws://a}]", SideBackends((A,))),
        ("production_endpoints: [{url: ws://a}, {url: ws://b}]", SideBackends((A, B))),
        ("production_endpoints: {}", SideBackends()),
        ("production_endpoints: []", SideBackends()),
        ("production_endpoints: null", SideBackends()),
        ("sandbox_endpoints: {url: ws://a}", SideBackends()),
        (
            "{production_endpoints: {url: ws://a}, production_failovers: [{url: ws://b},"
            " {url: ws://c}]}",
            SideBackends((A, B, C), failover=True),
        ),
        ("{production_endpoints: {url: ws://a}, production_failovers: []}", SideBackends((A,))),
    ],
)
def test_endpoints(text: str, side: SideBackends) -> None:
    assert read(text) == (side, [])


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("ws://h", "h"),
        ("ws://h:80/x", "h"),
        ("ws://h:443", "h:443"),
        ("wss://h:443", "h"),
        ("wss://h:80", "h:80"),
        ("http://h:8080", "h:8080"),
        ("ws://[2001:db8::1]", "[2001:db8::1]"),
        ("wss://[2001:db8::1]:8443/x", "[2001:db8::1]:8443"),
    ],
)
def test_the_host_that_a_backend_is_told(url: str, authority: str) -> None:
    """RFC 9110 section 7.2: `Host` has the port, unless it is the default of the scheme."""
    assert endpoint.parse(url).authority == authority


@pytest.mark.parametrize(
    ("config", "timeout", "retries"),
    [
        ("{actionDuration: '1500', retryTimeOut: '2'}", 1.5, 2),
        ("{actionDuration: 1500, retryTimeOut: 2}", 1.5, 2),
        ("{retryTimeOut: '0'}", None, 0),
        ("{}", None, 0),
    ],
)
def test_how_they_are_called(config: str, timeout: float | None, retries: int) -> None:
    text = f"production_endpoints: [{{url: ws://a, config: {config}}}, {{url: ws://b}}]"
    assert read(text) == (SideBackends((A, B), timeout=timeout, retries=retries), [])


@pytest.mark.parametrize(
    ("config", "timeout", "retries", "words"),
    [
        ("{actionDuration: soon, retryTimeOut: '2'}", None, 0, "and `retryTimeOut` neither"),
        ("{actionDuration: '1.5'}", None, 0, "`actionDuration` is not a whole number"),
        ("{actionDuration: '0', retryTimeOut: '2'}", None, 2, "not above 0"),
        ("{actionDuration: '-5'}", None, 0, "not above 0"),
        ("{actionDuration: '100', retryTimeOut: '-1'}", 0.1, 0, "nothing is retried"),
        ("{retryTimeOut: some}", None, 0, "nothing is retried"),
    ],
)
def test_odd_numbers_are_warned_about(
    config: str, timeout: float | None, retries: int, words: str
) -> None:
    side, problems = read(f"production_endpoints: {{url: ws://a, config: {config}}}")
    assert side == SideBackends((A,), timeout=timeout, retries=retries)
    (said,) = problems
    assert said.startswith("warning: ")
    assert words in said


@pytest.mark.parametrize(
    ("text", "side", "words"),
    [
        ("production_failovers: [{url: ws://b}]", SideBackends(), "without `production_endpoints`"),
        (
            "{production_endpoints: [{url: ws://a}, {url: ws://b}],"
            " production_failovers: {url: ws://c}}",
            SideBackends((A, B, C), failover=True),
            "the first of the `production_endpoints` gets all traffic",
        ),
        (
            "production_endpoints: [{url: ws://a}, {url: ws://b, config: {retryTimeOut: '1'}}]",
            SideBackends((A, B)),
            "only the `config` of the first",
        ),
        (
            "production_endpoints: {url: 'ws://a#f'}",
            SideBackends((A,)),
            "`#` in the URL is not sent",
        ),
    ],
)
def test_what_is_not_used_is_told(text: str, side: SideBackends, words: str) -> None:
    found, problems = read(text)
    assert found == side
    (said,) = problems
    assert said.startswith("warning: ")
    assert words in said


@pytest.mark.parametrize(
    "text", ["{url: ftp://a}", "{url: ''}", "{url: /x}", "{}, production_failovers: {url: /x}"]
)
def test_wrong_urls(text: str) -> None:
    side, problems = read(f"{{production_endpoints: {text}}}")
    assert side.endpoints == ()
    assert len(problems) == 1


def security(block: str) -> tuple[BasicAuth | None, list[str]]:
    side, problems = read(f"endpoint_security: {{production: {block}}}")
    return side.basic, problems


@pytest.mark.parametrize(
    ("block", "basic"),
    [
        ("{enabled: true, type: BASIC, username: u, password: p}", BasicAuth("u", "p")),
        ("{enabled: 'True', type: basic, username: u, password: p}", BasicAuth("u", "p")),
        ("{enabled: true, type: BASIC, username: 7, password: 007}", BasicAuth("7", "007")),
        ("{enabled: false, type: BASIC, username: u, password: p}", None),
        ("{enabled: '', type: OAUTH}", None),
        ("null", None),
        ("{}", None),
    ],
)
def test_credentials(block: str, basic: BasicAuth | None) -> None:
    assert security(block) == (basic, [])


@pytest.mark.parametrize(
    ("block", "severity", "words"),
    [
        ("{enabled: true, type: DIGEST, password: secret}", "warning", "type `DIGEST` has no"),
        ("{enabled: true, password: secret}", "warning", "has no `type`"),
        ("{enabled: maybe, type: BASIC, password: secret}", "error", "must be `true` or `false`"),
        (
            "{enabled: true, type: BASIC, username: 'a:secret', password: p}",
            "error",
            "holds a colon",
        ),
        (
            '{enabled: true, type: BASIC, username: a, password: "top\\nsecret"}',
            "error",
            "a control character",
        ),
    ],
)
def test_credentials_that_cannot_be_used(block: str, severity: str, words: str) -> None:
    basic, problems = security(block)
    assert basic is None
    (said,) = problems
    assert said.startswith(f"{severity}: ")
    assert words in said
    assert "secret" not in said


def test_credentials_never_show() -> None:
    side, _ = read("endpoint_security: {production: {enabled: true, type: BASIC, username: u,"
                   " password: top-secret}}")  # fmt: skip
    assert side.basic is not None
    assert "top-secret" not in repr(side)


@pytest.mark.parametrize("basic", [BasicAuth("a:b", ""), BasicAuth("a", "\r\n")])
def test_what_http_forbids(basic: BasicAuth) -> None:
    with pytest.raises(WrongError):
        backends.check_basic(basic)


def test_a_side_becomes_a_cluster() -> None:
    assert SideBackends().cluster(lambda _: ()) is None
    side = SideBackends((A, B), failover=True, timeout=2.0, retries=3, basic=BasicAuth("u", "p"))
    made = side.cluster(lambda endpoint: (endpoint.host,))
    trusted = tuple(Endpoint("ws", name, 80, trust=(name,)) for name in "ab")
    assert made == Cluster(trusted, True, 2.0, 3, BasicAuth("u", "p"))


def test_other_endpoints_keep_how_they_are_called() -> None:
    side = SideBackends((A, B), failover=True, timeout=2.0, retries=3)
    assert side.replaced(C) == SideBackends((C,), timeout=2.0, retries=3)

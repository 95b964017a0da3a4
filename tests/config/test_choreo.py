"""A Choreo Connect configuration is converted to settings that load; each lost key is reported."""

from __future__ import annotations

import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_gw.config import choreo, choreo_keys, tomltext
from trio_gw.config.settings import Settings, User
from trio_gw.config.settings_file import load
from trio_gw.config.settings_schema import every_key
from trio_gw.errors import UnusableError

DEFAULT = Path(__file__).parent / "choreo" / "config.toml"
SECRET = "correct-horse"  # without characters that a URL has to encode
DOWNSTREAM = "[router.downstream.tls]\n"
KEYS = frozenset(every_key(Settings))


def loaded(made: choreo.Converted) -> Settings:
    """Load the result with the gateway's loader."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gateway.toml")
        path.write_text(made.text)
        return load(path, dict.fromkeys(made.variables, SECRET)).settings


def convert(text: str) -> tuple[Settings, list[str]]:
    made = choreo.convert(text, "config.toml")
    return loaded(made), [str(problem) for problem in made.problems]


# -- key by key ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target", "value"),
    [
        ('[adapter]\nartifactsDirectory = "/a/"', "apis", "/a/apis"),
        ('[router]\nlistenerHost = "10.0.0.1"', "listen.http", "10.0.0.1:9090"),
        ("[router]\nlistenerPort = 80", "listen.http", "0.0.0.0:80"),
        ('[router]\nsecuredListenerHost = "::"', "listen.https", "[::]:9095"),
        ('[adapter.server]\nhost = "127.0.0.1"\nport = "1"', "listen.admin", "127.0.0.1:1"),
        ("[adapter.server]\nenabled = false\nport = '1'", "listen.admin", ""),
        ("[adapter.server]\nenable = false", "listen.admin", ""),
        ("[adapter.server]\nenabled = true", "listen.admin", "localhost:9843"),
        ('[router.keystore]\ncertPath = "/c.pem"', "tls.cert", "/c.pem"),
        (DOWNSTREAM + 'minimumProtocolVersion = "TLS1_3"', "tls.minimum", "1.3"),
        (DOWNSTREAM + 'minimumProtocolVersion = "TLS_AUTO"', "tls.minimum", "1.2"),
        (
            DOWNSTREAM + 'ciphers = "ECDHE-RSA-AES128-GCM-SHA256, ECDHE-RSA-AES128-SHA"',
            "tls.ciphers",
            "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA",
        ),
        ('[router.keystore]\nkeyPath = "/c.key"', "tls.key", "/c.key"),
        ("[router]\nclusterTimeoutInSeconds = 7", "timeouts.connect", 7),
        ("[ROUTER]\nCLUSTERTIMEOUTINSECONDS = 7", "timeouts.connect", 7),
        ("router.clusterTimeoutInSeconds = 7", "timeouts.connect", 7),
        ("[router.upstream.timeouts]\nrouteTimeoutInSeconds = 8", "timeouts.handshake", 8),
        ("[router.upstream.timeouts]\nrouteIdleTimeoutInSeconds = 9", "timeouts.idle", 9),
        ("[router.connection.timeouts]\nrequestHeadersTimeoutInSeconds = 3", "timeouts.head", 3),
        ("[router.upstream.health]\ntimeout = 2", "health.timeout", 2),
        ("[router.upstream.health]\ninterval = 3", "health.interval", 3),
        ("[router.upstream.health]\nunhealthyThreshold = 4", "health.unhealthy", 4),
        ("[router.upstream.health]\nhealthyThreshold = 5", "health.healthy", 5),
        ("[router.upstream.retry]\nmaxRetryCount = 6", "retry.limit", 6),
        ("[router.upstream.retry]\nbaseIntervalInMillis = 40", "retry.backoff", 0.04),
        ("[router.upstream.retry]\nstatusCodes = [503, 504]", "retry.statuses", (503, 504)),
        ("[router.upstream.dns]\ndNSRefreshRate = 1500", "dns.refresh", 1.5),
        ("[router.cors]\nenabled = false", "cors.enabled", False),
        ("[router.cors]\nallowOrigins = ['https://a.b']", "cors.allow_origins", ("https://a.b",)),
        ("[router.cors]\nallowMethods = ['GET']", "cors.allow_methods", ("GET",)),
        ("[router.cors]\nallowHeaders = ['x']", "cors.allow_headers", ("x",)),
        ("[router.cors]\nexposeHeaders = ['x']", "cors.expose_headers", ("x",)),
        (
            "[router.cors]\nallowOrigins = ['https://a.b']\nallowCredentials = true",
            "cors.allow_credentials",
            True,
        ),
        (
            "[enforcer.security.authHeader]\nenableOutboundAuthHeader = true",
            "forward_credentials",
            True,
        ),
        ("[enforcer.jwtGenerator]\nenabled = true", "backend_jwt.enabled", True),
        ("[enforcer.jwtGenerator]\nheader = 'X-A'", "backend_jwt.header", "X-A"),
        ("[enforcer.jwtGenerator]\ntokenTTL = 600", "backend_jwt.validity", 600),
        ("[enforcer.jwtGenerator]\nclaimDialect = 'x'", "backend_jwt.dialect", "x"),
        ("[enforcer.jwtGenerator]\nencoding = 'base64url'", "backend_jwt.encoding", "base64url"),
        ("[enforcer.jwtGenerator]\nuseKidProperty = false", "backend_jwt.key_id", "x5t"),
        ("[enforcer.jwtGenerator]\njwksRatelimitQuota = 7", "backend_jwt.jwks_limit", 7),
        (
            "[enforcer.security.authHeader]\nauthorizationHeader = 'X-Token'",
            "authorization_header",
            "X-Token",
        ),
        (
            "[enforcer.security.authHeader]\ntestConsoleHeaderName = 'X-Key'",
            "internal_key.header",
            "X-Key",
        ),
        ("[enforcer.jwtIssuer]\nenabled = false", "testkey.enabled", False),
        ("[enforcer.jwtIssuer]\nissuer = 'https://i'", "testkey.issuer", "https://i"),
        ("[enforcer.jwtIssuer]\nvalidityPeriod = 60", "testkey.validity", 60),
    ],
)
def test_mapped(text: str, target: str, value: object) -> None:
    found: Any
    if "jwtIssuer" not in text:
        text += "\n[enforcer.jwtIssuer]\nenabled = false\n"  # otherwise its password would matter
    found, problems = convert(text)
    assert problems == []
    for part in target.split("."):
        found = getattr(found, part)
    assert found == value


def test_lists_of_tables() -> None:
    found, problems = convert(
        "[[adapter.vhostMapping]]\nenvironment = 'Default'\nvhost = 'ws.example'\n"
        "[[adapter.vhostMapping]]\nenvironment = 'US'\nvhost = 'us.example'\n"
        "[[enforcer.jwtIssuer.jwtUser]]\nusername = 'a'\npassword = 'b'\n"
        "[[enforcer.security.tokenService]]\nname = 'I'\nissuer = 'i'\njwksURL = 'https://i/k'\n"
        "[[enforcer.security.tokenService]]\nissuer = 'j'\ncertificateFilePath = '/j.pem'\n"
    )
    assert problems == []
    assert [(one.name, one.vhost) for one in found.environments] == [
        ("Default", "ws.example"),
        ("US", "us.example"),
    ]
    assert found.testkey.users == (User("a", "b"),)
    assert [(one.name, one.issuer, one.jwks, one.certificate) for one in found.issuers] == [
        ("I", "i", "https://i/k", ""),
        ("", "j", "", "/j.pem"),
    ]


# -- keys that are not converted are reported ---------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[router]\n\nsystemHost = 'x'",
            "config.toml:3: warning: router.systemHost has no meaning",
        ),
        ("[nonsense]\na = 1", ":2: warning: nonsense.a is not a key of Choreo Connect"),
        ("[router]\nlistenerprot = 1", ":2: warning: router.listenerprot is not a key"),
        ("[router]\nclusterTimeoutInSeconds = 'x'", "cannot be taken over; it must be a number"),
        ("[router.cors]\nenabled = 'x'", "cannot be taken over; `cors.enabled` cannot be set"),
        ("[router.upstream.timeouts]\nrouteIdleTimeoutInSeconds = 0", "must be more than 0"),
        ("[router.cors]\nallowCredentials = true", "lets every web page act"),
        ("[router]\nlistenerHost = 'a b'", "the host is neither a name nor an address"),
        ("[adapter]\nvhostMapping = 'x'", "vhostMapping"),
        ("adapter.server.users = []", "adapter.server.users"),
    ],
)
def test_named_with_line_and_reason(text: str, said: str) -> None:
    found, problems = convert(text)
    assert found == loaded(choreo.Converted("", (), ()))
    assert len(problems) == 1
    assert said in problems[0]


def test_a_default_password_keeps_the_port_on_loopback() -> None:
    users = "[[enforcer.jwtIssuer.jwtUser]]\nusername = 'admin'\npassword = 'admin'\n"
    found, problems = convert(f"[router]\nlistenerHost = '0.0.0.0'\n{users}")
    assert found.listen.http == "localhost:9090"
    assert "default password" in problems[0]
    assert problems[0].startswith("config.toml:2: ")


def test_an_entry_is_left_out_whole() -> None:
    """A partly converted issuer would trust more than the configuration says."""
    good = "[[enforcer.security.tokenService]]\nissuer = 'i'\ncertificateFilePath = '/i.pem'\n"
    bad = "[[enforcer.security.tokenService]]\nissuer = 'j'\njwksURL = 'http://j.example/k'\n"
    found, problems = convert(bad + good)
    assert [one.issuer for one in found.issuers] == ["i"]
    assert [problem.split(":")[1] for problem in problems] == ["2", "3"]


@pytest.mark.parametrize(
    "entry",
    [
        "issuer = 'i'",  # no key
        "certificateFilePath = '/i.pem'",  # no issuer
        "issuer = 'i'\njwksURL = 'http://i.example/k'",
    ],
)
def test_no_issuer_left_trusts_nobody(entry: str) -> None:
    found, problems = convert(f"[[enforcer.security.tokenService]]\n{entry}\n")
    assert found.issuers == ()
    assert problems


def test_the_publisher_signs_keys_of_the_test_console() -> None:
    """Only with an entry of that name: issuers without an entry are not trusted."""
    entry = "[[enforcer.security.tokenService]]\nname = 'APIM Publisher'\n"
    found, problems = convert(f"{entry}issuer = 'p'\ncertificateFilePath = '/p.pem'\n")
    assert problems == []
    assert found.internal_key.issuer == "APIM Publisher"
    found, problems = convert(f"{entry}issuer = 'p'\n")  # has no keys
    assert (found.internal_key.issuer, found.issuers) == ("", ())
    assert problems


def test_no_user_left_lets_nobody_in() -> None:
    found, problems = convert("[[enforcer.jwtIssuer.jwtUser]]\nusername = 'a'\n")
    assert found.testkey.users == ()
    assert "`password` is missing" in problems[0]


def test_the_later_of_two_issuers_wins() -> None:
    entry = "[[enforcer.security.tokenService]]\nissuer = 'i'\ncertificateFilePath = '/{}.pem'\n"
    found, problems = convert(entry.format("one") + entry.format("two"))
    assert [one.certificate for one in found.issuers] == ["/two.pem"]
    assert len(problems) == 2


def test_a_jwks_goes_before_a_certificate() -> None:
    found, problems = convert(
        "[[enforcer.security.tokenService]]\nissuer = 'i'\ncertificateFilePath = '/i.pem'\n"
        "jwksURL = 'https://i/k'\n"
    )
    assert [(one.jwks, one.certificate) for one in found.issuers] == [("https://i/k", "")]
    assert len(problems) == 1
    assert problems[0].startswith("config.toml:3: ")


GIT = """
[adapter.sourceControl]
enabled = true
pollInterval = 5
retryInterval = 1
artifactsDirectory = "/git"
[adapter.sourceControl.repository]
URL = "https://git.example.com/apis.git"
branch = "main"
username = "u"
accessToken = "$env{token}"
SSHKeyFile = "/key"
"""


def test_a_git_repository() -> None:
    found, problems = convert(GIT)
    table = found.git
    assert (table.url, table.branch) == ("https://git.example.com/apis.git", "main")
    assert (table.interval, table.username, table.token) == (5, "u", SECRET)
    assert table.ssh_key == ""
    named = [problem.split(" ")[2] for problem in problems]
    assert named == [
        "adapter.sourceControl.retryInterval",
        "adapter.sourceControl.artifactsDirectory",
        "adapter.sourceControl.repository.SSHKeyFile",
    ]


@pytest.mark.parametrize("switch", ["enabled = false", 'enabled = "true"', ""])
def test_a_git_repository_that_is_off(switch: str) -> None:
    made = choreo.convert(GIT.replace("enabled = true", switch), "config.toml")
    assert loaded(made) == loaded(choreo.Converted("", (), ()))
    assert made.variables == ()
    assert any("sourceControl.enabled is not true" in one.what for one in made.problems)


def test_a_git_repository_by_ssh() -> None:
    text = GIT.replace('username = "u"', "").replace('accessToken = "$env{token}"', "")
    found, _ = convert(text.replace("https://git.example.com/", "git@git.example.com:"))
    assert (found.git.url, found.git.ssh_key) == ("git@git.example.com:apis.git", "/key")


@pytest.mark.parametrize("value", [SECRET, "$env{pwd}", "a${b}c", 'q"\\\u007f\u00e9', "${x"])
def test_passwords_are_carried_and_never_told(value: str) -> None:
    text = f"[[enforcer.jwtIssuer.jwtUser]]\nusername = 'a'\npassword = {tomltext.value(value)}\n"
    text += f"[enforcer.management]\npassword = {tomltext.value(SECRET)}\n[nonsense]\np = 'SECRET'"
    made = choreo.convert(text, "config.toml")
    expected = SECRET if value.startswith("$env") else value
    assert loaded(made).testkey.users == (User("a", expected),)
    assert made.variables == (("pwd",) if value.startswith("$env") else ())
    told = "".join(map(str, made.problems))
    assert SECRET not in told
    assert "SECRET" not in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = ", "config.toml:1: not valid TOML: "),
        ("[a]\n[a]\n", "config.toml:2: not valid TOML: "),
    ],
)
def test_no_toml(text: str, said: str) -> None:
    with pytest.raises(UnusableError, match=re.escape(said)):
        choreo.convert(text, "config.toml")


# -- whole files -------------------------------------------------------------------------------


def test_the_default_configuration() -> None:
    text = DEFAULT.read_text()
    made = choreo.convert(text, "config.toml")
    found = loaded(made)
    assert found.apis == "/home/wso2/artifacts/apis"
    assert found.listen.http == "0.0.0.0:9090"
    assert found.listen.https == "0.0.0.0:9095"
    assert found.testkey.users == (User("admin", SECRET),)
    assert {"Resident Key Manager", "MGW"} <= {one.name for one in found.issuers}
    assert "enforcer_admin_pwd" in made.variables
    assert not [problem for problem in made.problems if "is no key" in problem.what]
    # Each key of the file is in the result, or is reported.
    spoken = " ".join(problem.what.split(" ")[0] for problem in made.problems) + made.text
    for path, value in leaves(tomllib.loads(text), ""):
        assert path in spoken or value == "" or ".enable" in path, path


def leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [
            leaf
            for key, child in value.items()
            for leaf in leaves(child, f"{path}.{key}".lstrip("."))
        ]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [
            leaf for index, child in enumerate(value) for leaf in leaves(child, f"{path}[{index}]")
        ]
    return [(path, value)]


@pytest.mark.parametrize("key", choreo_keys.KEYS)
def test_each_line_of_the_table_counts(key: str) -> None:
    """No line of the table hides another one, and each has an effect."""
    rule = choreo_keys.rule_for(key.replace(".*", ".anything"))
    assert rule == choreo_keys.KEYS[key]
    assert rule is not None
    assert rule[0]


TEXT = st.text('ab:/.*$_{}"\\\x00\x7f\n\u20ac', max_size=6)
SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 99_999) | st.floats(allow_nan=True)
    | st.sampled_from(["", "localhost", "0.0.0.0", "https://a.b", "admin", "$env{V}", "${", "1h"])
    | TEXT | st.lists(st.integers(0, 600) | TEXT, max_size=3)
)  # fmt: skip
CONCRETE = [key for key in choreo_keys.KEYS if not key.endswith("*")]


def write(values: dict[str, Any]) -> str:
    """Write `a.b[].c` keys as TOML."""
    lines = []
    tables: dict[str, list[str]] = {}
    for key, value in values.items():
        if value is None:
            continue
        if "[]" in key:
            table, _, name = key.partition("[].")
            tables.setdefault(table, []).append(f"{name} = {toml(value)}")
        else:
            lines.append(f"{key} = {toml(value)}")
    for table, entry in tables.items():
        lines += [f"[[{table}]]", *entry]
    return "\n".join(lines)


def toml(value: Any) -> str:
    if isinstance(value, list) and len({type(each) for each in value}) > 1:
        value = [str(each) for each in value]
    return tomltext.value(value)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(CONCRETE), SCALARS, max_size=12))
def test_whatever_it_says_the_result_loads(values: dict[str, Any]) -> None:
    made = choreo.convert(write(values), "config.toml")
    loaded(made)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5),
        st.recursive(
            st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
            | st.text(st.characters(codec="utf-8")),
            st.lists,
            max_leaves=6,
        ),
    )
)  # fmt: skip
def test_toml_is_read_back(values: dict[str, Any]) -> None:
    text = "\n".join(tomltext.lines({"table": values, "rows": [values]}, lambda _: "")) + "\n"
    assert tomllib.loads(text) == ({"table": values} if values else {}) | {"rows": [values]}

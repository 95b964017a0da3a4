"""Settings from a file and from the environment, and the problem for each mistake."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from trio_gw.config import settings as config
from trio_gw.config.settings import Issuer, Settings, User
from trio_gw.config.settings_file import LoadedSettings, load
from trio_gw.errors import Problem, UnusableError

EXAMPLE = """\
apis = "apis"
certs = "certs"
workers = 1
strict_vhosts = false
[listen]
http = "localhost:9090"     # a name binds all its addresses
https = "localhost:9095"
admin = "localhost:9843"
[tls]
cert = "certs/mg.pem"
key = "certs/mg.key"
[timeouts]                  # seconds
head = 10
connect = 20
handshake = 60
idle = 300
lifetime = 86400
close = 5
[[issuers]]
name = "MGW"
issuer = "https://localhost:9095/testkey"
certificate = "certs/mg.pem"
algorithms = ["RS256"]
validate_subscription = false
consumer_key_claim = ""
[testkey]
enabled = true
issuer = "https://localhost:9095/testkey"
validity = 3600
[[testkey.users]]
username = "admin"
password = "admin"
[[environments]]
name = "Default"
vhost = "localhost"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def read(file: Path, text: str | bytes, **environ: str) -> LoadedSettings:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(file, environ)


def problems(file: Path | None, text: str | bytes = "", **environ: str) -> list[Problem]:
    if file is not None:
        file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UnusableError) as caught:
        load(file, environ)
    return list(caught.value.problems)


def problem(file: Path | None, text: str | bytes = "", **environ: str) -> Problem:
    (only,) = problems(file, text, **environ)
    return only


# --- values ---


def test_without_file_and_environment_the_defaults_work(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(None, {"PATH": "/bin", "TRIO_GW_CONFIG": "x.toml", "TRIO": "y"})
    assert loaded == LoadedSettings(Settings(), Path.cwd(), ())


def test_the_documented_file_is_the_defaults(file: Path) -> None:
    assert read(file, EXAMPLE) == LoadedSettings(Settings(), file.parent, ())


def test_an_empty_file_is_the_defaults(file: Path) -> None:
    assert read(file, "").settings == Settings()
    assert read(file, b"\xef\xbb\xbf# BOM\r\nworkers = 1\r\n").settings == Settings()


def test_every_value_of_the_file_counts(file: Path) -> None:
    text = """
    apis = "/srv/apis"
    certs = "keys"
    strict_vhosts = true
    forward_credentials = true
    trusted_proxies = ["10.0.0.7", "fd00::/8", "10.1.2.3/8"]
    listen = {http = ":80", https = "", admin = "[::1]:0"}
    [timeouts]
    idle = 1.5
    [[issuers]]
    issuer = "https://a"
    jwks = "https://a/jwks"
    algorithms = ["ES256", "EdDSA"]
    [[issuers]]
    issuer = "https://localhost:9095/testkey"
    jwks = "keys.json"
    consumer_key_claim = "azp"
    [testkey]
    validity = 60
    [[testkey.users]]
    username = "a"
    password = "b"
    [[environments]]
    name = "Prod"
    vhost = "*.example.com"
    [[environments]]
    name = "Dev"
    vhost = "127.0.0.1"
    """
    loaded = read(file, text)
    settings = loaded.settings
    assert loaded.problems == ()
    assert settings.apis == "/srv/apis"
    assert settings.strict_vhosts
    assert settings.forward_credentials
    assert settings.trusted_proxies == ("10.0.0.7", "fd00::/8", "10.1.2.3/8")
    assert settings.listen == config.Listen(":80", "", "[::1]:0")
    assert settings.timeouts == config.Timeouts(idle=1.5)
    assert settings.issuers == (
        Issuer("https://a", jwks="https://a/jwks", algorithms=("ES256", "EdDSA")),
        Issuer("https://localhost:9095/testkey", jwks="keys.json", consumer_key_claim="azp"),
    )
    assert settings.testkey == config.TestKey(validity=60, users=(User("a", "b"),))
    assert [one.vhost for one in settings.environments] == ["*.example.com", "127.0.0.1"]
    assert settings.path(loaded.base, settings.apis) == Path("/srv/apis")
    assert settings.path(loaded.base, "certs") == file.parent / "certs"


def test_paths_are_relative_to_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "real.toml").write_text("")
    (tmp_path / "etc/gateway.toml").symlink_to(tmp_path / "real.toml")
    monkeypatch.chdir(tmp_path)
    assert load(Path("etc/gateway.toml"), {}).base == tmp_path / "etc"


def test_the_tls_files_follow_the_certs_folder(file: Path) -> None:
    settings = read(file, 'certs = "/etc/gw"').settings
    assert settings.tls == config.Tls("/etc/gw/mg.pem", "/etc/gw/mg.key")
    assert settings.issuers[0].certificate == "/etc/gw/mg.pem"
    settings = read(file, 'certs = "/etc/gw"\n[tls]\ncert = "own.pem"').settings
    assert settings.tls == config.Tls("own.pem", "/etc/gw/mg.key")
    assert settings.issuers[0].certificate == "own.pem"


def test_the_default_issuer_follows_the_test_keys(file: Path) -> None:
    text = '[testkey]\nissuer = "https://gw"\n[tls]\ncert = "gw.pem"'
    assert read(file, text).settings.issuers == (Issuer("https://gw", "MGW", "gw.pem"),)
    settings = load(None, {"TRIO_GW_TESTKEY_ISSUER": "https://env"}).settings
    assert settings.issuers == (Issuer("https://env", "MGW", "certs/mg.pem"),)


def test_a_repr_shows_no_password(file: Path) -> None:
    loaded = read(file, '[[testkey.users]]\nusername = "bob"\npassword = "hunter2"')
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in str(loaded.settings.testkey.users)
    user = loaded.settings.testkey.users[0]
    assert repr(user) == "User(username='bob', password=<hidden>)"
    assert dict(user.__rich_repr__()) == {"username": "bob", "password": "<hidden>"}


# --- the environment ---


def test_variables_override_the_file(file: Path) -> None:
    loaded = read(
        file,
        EXAMPLE,
        TRIO_GW_APIS="/elsewhere",
        TRIO_GW_STRICT_VHOSTS="true",
        TRIO_GW_FORWARD_CREDENTIALS="1",
        TRIO_GW_TRUSTED_PROXIES="10.0.0.1, 10.0.0.2,",
        TRIO_GW_LISTEN_HTTP="localhost:1",
        TRIO_GW_LISTEN_ADMIN="",
        TRIO_GW_TIMEOUTS_IDLE="12.5",
        TRIO_GW_TESTKEY_VALIDITY=" 60 ",
        TRIO_GW_TESTKEY_USERS_0_PASSWORD="${literal}",
        TRIO_GW_ISSUERS_0_ALGORITHMS="RS256,ES256",
        TRIO_GW_ENVIRONMENTS_1_NAME="Second",
        TRIO_GW_ENVIRONMENTS_1_VHOST="second.example",
    )
    settings = loaded.settings
    assert settings.apis == "/elsewhere"
    assert settings.strict_vhosts
    assert settings.forward_credentials
    assert settings.trusted_proxies == ("10.0.0.1", "10.0.0.2")
    assert settings.listen == config.Listen("localhost:1", "localhost:9095", "")
    assert settings.timeouts.idle == 12.5
    assert settings.testkey.validity == 60
    assert settings.testkey.users == (User("admin", "${literal}"),)
    assert settings.issuers[0].algorithms == ("RS256", "ES256")
    assert [one.name for one in settings.environments] == ["Default", "Second"]


def test_variables_change_entries_of_default_lists() -> None:
    settings = load(
        None,
        {
            "TRIO_GW_TESTKEY_USERS_0_PASSWORD": "better",
            "TRIO_GW_TESTKEY_USERS_1_USERNAME": "second",
            "TRIO_GW_TESTKEY_USERS_1_PASSWORD": "other",
            "TRIO_GW_ENVIRONMENTS_0_VHOST": "ws.example.com",
            "TRIO_GW_ISSUERS_1_ISSUER": "https://idp",
            "TRIO_GW_ISSUERS_1_JWKS": "https://idp/jwks",
        },
    ).settings
    assert settings.testkey.users == (User("admin", "better"), User("second", "other"))
    assert settings.environments == (config.Environment(vhost="ws.example.com"),)
    assert settings.issuers == (config.MGW, Issuer("https://idp", jwks="https://idp/jwks"))


def test_a_key_set_given_for_the_default_issuer_replaces_its_certificate() -> None:
    settings = load(None, {"TRIO_GW_ISSUERS_0_JWKS": "keys.json"}).settings
    assert settings.issuers == (Issuer(config.MGW.issuer, "MGW", jwks="keys.json"),)


def test_one_variable_turns_the_test_keys_off() -> None:
    assert not load(None, {"TRIO_GW_TESTKEY_ENABLED": "false"}).settings.testkey.enabled


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("TRIO_GW_LISTEN_HTPP", "did you mean TRIO_GW_LISTEN_HTTP?"),
        ("TRIO_GW_listen_http", "did you mean TRIO_GW_LISTEN_HTTP?"),
        ("TRIO_GW_TIMEOUT_IDLE", "did you mean TRIO_GW_TIMEOUTS_IDLE?"),
        ("TRIO_GW_TESTKEY_USER_1_PASSWORD", "did you mean TRIO_GW_TESTKEY_USERS_1_PASSWORD?"),
        ("TRIO_GW_ISSUERS_2_JWK", "did you mean TRIO_GW_ISSUERS_2_JWKS?"),
        ("TRIO_GW_ZZZ", "unset it"),
        ("TRIO_GW_", "unset it"),
        ("TRIO_GW_LISTEN", None),
        ("TRIO_GW_ISSUERS", None),
        ("TRIO_GW_ISSUERS_0", None),
        ("TRIO_GW_ISSUERS_X_JWKS", None),
        ("TRIO_GW_ISSUERS_00_JWKS", None),
        ("TRIO_GW_ISSUERS_-1_JWKS", None),
        ("TRIO_GW_APIS_HTTP", None),
    ],
)
def test_an_unknown_variable_is_an_error(name: str, hint: str | None) -> None:
    found = problem(None, **{name: "secret-value"})
    assert (found.file, found.what) == (name, "no setting has this variable")
    assert found.hint == hint or hint is None
    assert "secret-value" not in str(found)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("TRIO_GW_STRICT_VHOSTS", "maybe", "strict_vhosts must be true or false"),
        ("TRIO_GW_WORKERS", "two", "workers must be a whole number"),
        ("TRIO_GW_WORKERS", "", "workers must be a whole number"),
        ("TRIO_GW_TIMEOUTS_IDLE", "5s", "timeouts.idle must be a number"),
        ("TRIO_GW_TIMEOUTS_IDLE", "nan", "timeouts.idle must be more than 0 seconds, and finite"),
        ("TRIO_GW_LISTEN_HTTP", "9090", "listen.http: '9090' is not an address: a port is missing"),
        ("TRIO_GW_ISSUERS_2_JWKS", "x", "issuers[2].jwks leaves a gap in the list"),
        ("TRIO_GW_ISSUERS_1_JWKS", "x", "issuers[1].issuer is missing"),
    ],
)
def test_a_bad_value_of_a_variable_names_the_variable(name: str, value: str, what: str) -> None:
    found = problem(None, **{name: value})
    assert (found.file, found.line, found.what) == (name, 0, what)


# --- ${NAME} ---


def test_strings_take_values_from_the_environment(file: Path) -> None:
    text = """
    apis = "${HOME}/apis"
    trusted_proxies = ["${PROXY}"]
    [[testkey.users]]
    username = "a${EMPTY}b"
    password = "$${PASS}-${PASS}-$PASS-$$-{PASS}"
    """
    settings = read(file, text, HOME="/home/gw", PROXY="::1", EMPTY="", PASS="x${HOME}").settings
    assert settings.apis == "/home/gw/apis"
    assert settings.trusted_proxies == ("::1",)
    # The value of a variable is not expanded again.
    assert settings.testkey.users == (User("ab", "${PASS}-x${HOME}-$PASS-$$-{PASS}"),)


def test_a_variable_that_is_not_set_names_the_key(file: Path) -> None:
    text = """
[listen]
http = "localhost:${PORT}"
[[testkey.users]]
username = "a"
password = "${PW}"
"""
    one, two = problems(file, text)
    assert str(one) == (
        f"{file}:3: listen.http needs the environment variable PORT, which is not set;"
        " set PORT, or write $${ for the text ${"
    )
    assert (two.line, two.what) == (
        6,
        "testkey.users[0].password needs the environment variable PW, which is not set",
    )


@pytest.mark.parametrize("text", ["${", "a${B", "${}", "${A B}", "${1A}", "${A:-b}"])
def test_what_looks_like_a_variable_but_is_none_is_an_error(file: Path, text: str) -> None:
    found = problem(file, f"apis = '{text}'", A="a", B="b")
    assert "apis has a `${` that starts no variable name" in found.what


# --- mistakes in the file ---


def test_an_unknown_key_has_its_line_and_a_suggestion(file: Path) -> None:
    text = """\
aips = "x"
idle = 5
zzz = 1
[Listen]
http = "localhost:1"
[timeouts]
idel = 5
[[issuers]]
issuer = "a"
certificate = "b"
[[issuers]]
issuer = "c"
certificate = "d"
algorithm = ["RS256"]
[testkey]
enabled = false
users = []
"""
    found = [(one.line, one.what, one.hint) for one in problems(file, text)]
    assert found == [
        (1, "unknown key aips", "did you mean apis?"),
        (2, "unknown key idle", "did you mean timeouts.idle?"),
        (3, "unknown key zzz", "remove it"),
        (4, "unknown key Listen", "did you mean listen?"),
        (7, "unknown key timeouts.idel", "did you mean timeouts.idle?"),
        (14, "unknown key issuers[1].algorithm", "did you mean issuers[1].algorithms?"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "what"),
    [
        ("a = 1\nb = \n", 2, 5, "not valid TOML: Invalid value"),
        ("workers = 1\nworkers = 1", 2, 0, "not valid TOML: Cannot overwrite a value"),
        ("workers = 1\nworkers = 1\n\n", 2, 12, "not valid TOML: Cannot overwrite a value"),
        ("# x\n[listen", 2, 0, "not valid TOML: Expected ']' at the end of a table declaration"),
        ("a = " + "[" * 5000, 0, 0, "the settings are nested too deeply"),
        ("a" + ".a" * 3000 + " = 1", 0, 0, "the settings are nested too deeply"),
        ("workers = " + "1" * 5000, 0, 0, "a number in the settings has thousands of digits"),
        (b"apis = '\xff'", 0, 0, "the settings are not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_toml(
    file: Path, text: str | bytes, line: int, column: int, what: str
) -> None:
    found = problem(file, text)
    assert (found.file, found.line, found.column) == (str(file), line, column)
    assert found.what.startswith(what)
    assert found.hint


def test_a_file_without_end_is_not_read_to_it() -> None:
    with pytest.raises(UnusableError) as caught:
        load(Path("/dev/zero"), {})
    assert "larger than 1 MiB" in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UnusableError) as caught:
            load(path, {})
        (found,) = caught.value.problems
        assert found.file == str(path)
        assert found.what.startswith("the settings cannot be read: ")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("workers = '1'", 1, "workers must be a whole number"),
        ("workers = 1.5", 1, "workers must be a whole number"),
        ("workers = true", 1, "workers must be a whole number"),
        ("\nstrict_vhosts = 1", 2, "strict_vhosts must be true or false"),
        ("apis = 5", 1, "apis must be text in quotes"),
        ("apis = 2020-01-01", 1, "apis must be text in quotes"),
        ("trusted_proxies = '10.0.0.1'", 1, "trusted_proxies must be a list of texts"),
        ("trusted_proxies = [1]", 1, "trusted_proxies must be a list of texts"),
        ("[timeouts]\nidle = '5'", 2, "timeouts.idle must be a number"),
        ("listen = 'localhost'", 1, "listen must be a table"),
        ("[[listen]]\nhttp = ''", 1, "listen must be a table"),
        ("issuers = 'x'", 1, "issuers must be a list of tables"),
        ("[issuers]\nissuer = 'x'", 1, "issuers must be a list of tables"),
        ("[testkey.users]\nusername = 'x'", 1, "testkey.users must be a list of tables"),
        ("[[issuers]]\njwks = 'x'", 1, "issuers[0].issuer is missing"),
        ("[[testkey.users]]\nusername = 'x'", 1, "testkey.users[0].password is missing"),
        ("[[issuers]]\nissuer = 5\njwks = 'x'", 2, "issuers[0].issuer must be text in quotes"),
    ],
)
def test_a_value_of_the_wrong_kind(file: Path, text: str, line: int, what: str) -> None:
    found = problem(file, text)
    assert (found.file, found.line, found.what) == (str(file), line, what)
    assert found.severity == "error"


def test_all_mistakes_are_reported_at_once(file: Path) -> None:
    found = problems(file, "a = 1\nworkers = 'x'\n", TRIO_GW_NOPE="1", TRIO_GW_TIMEOUTS_IDLE="x")
    assert {one.file for one in found} == {str(file), "TRIO_GW_NOPE", "TRIO_GW_TIMEOUTS_IDLE"}
    assert len(found) == 4


# --- rules ---

ISSUER = "[[issuers]]\nissuer = 'https://localhost:9095/testkey'\n"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("apis = ''", 1, "apis is empty"),
        ("certs = ''", 1, "certs is empty"),
        ("[tls]\ncert = ''", 2, "tls.cert is empty"),
        ("workers = -1", 1, "workers must be 0 to 256"),
        ("workers = 257", 1, "workers must be 0 to 256"),
        ("worker_timeout = 4.9", 1, "worker_timeout must be at least 5 seconds, and finite"),
        ("worker_timeout = -1", 1, "worker_timeout must be at least 5 seconds, and finite"),
        ("worker_timeout = inf", 1, "worker_timeout must be at least 5 seconds, and finite"),
        ("worker_timeout = nan", 1, "worker_timeout must be at least 5 seconds, and finite"),
        ("[timeouts]\nclose = 0", 2, "timeouts.close must be more than 0 seconds, and finite"),
        ("[timeouts]\nidle = -1", 2, "timeouts.idle must be more than 0 seconds, and finite"),
        ("[timeouts]\nidle = inf", 2, "timeouts.idle must be more than 0 seconds, and finite"),
        ("[timeouts]\nidle = nan", 2, "timeouts.idle must be more than 0 seconds, and finite"),
        (
            "trusted_proxies = [\n'10.0.0.1',\n'10.0.0.0/33']",
            1,
            "trusted_proxies: '10.0.0.0/33' is not an IP address or network",
        ),
        (
            "[listen]\nhttp = 'localhost:9095'",
            1,
            "listen.https and listen.http use the same address localhost:9095",
        ),
        (ISSUER + "name = 'x'", 1, "issuers[0] has neither of certificate and jwks"),
        (
            ISSUER + "certificate = 'a'\njwks = 'b'",
            1,
            "issuers[0] has both of certificate and jwks",
        ),
        (
            "testkey.enabled = false\n[[issuers]]\nissuer = ''\njwks = 'b'",
            3,
            "issuers[0].issuer is empty",
        ),
        (
            ISSUER + "jwks = 'a'\n" + ISSUER + "jwks = 'b'",
            5,
            "issuers[1].issuer repeats 'https://localhost:9095/testkey' of issuers[0]",
        ),
        (
            ISSUER + "jwks = 'http://idp.example/jwks'",
            3,
            "issuers[0].jwks uses http://, which lets anyone on the way replace the keys",
        ),
        (ISSUER + "jwks = 'ftp://idp.example/jwks'", 3, "issuers[0].jwks uses ftp://"),
        (ISSUER + "jwks = 'https:///jwks'", 3, "issuers[0].jwks is not a URL with a host"),
        (ISSUER + "jwks = 'https://[::1/jwks'", 3, "issuers[0].jwks is not a URL"),
        (ISSUER + "jwks = 'https://a:99999/jwks'", 3, "issuers[0].jwks is not a URL"),
        (
            ISSUER + "jwks = 'https://user:pw@idp/jwks'",
            3,
            "issuers[0].jwks holds credentials, which are not supported there",
        ),
        (ISSUER + "jwks = 'a'\nalgorithms = []", 4, "issuers[0].algorithms is empty"),
        (
            ISSUER + "jwks = 'a'\n[issuers.claims]\nscope = ''",
            5,
            "issuers[0].claims.scope is empty",
        ),
        (
            ISSUER + "introspection_url = 'http://idp.example/i'\n"
            "client_id = 'gw'\nclient_secret = 's'",
            3,
            "issuers[0].introspection_url uses http://, which lets anyone on the way read the"
            " tokens",
        ),
        (
            ISSUER + "introspection_url = 'https://idp.example/i'\nclient_id = 'gw'",
            3,
            "issuers[0].introspection_url needs client_secret",
        ),
        (
            ISSUER + "jwks = 'a'\nclient_secret = 's'",
            4,
            "issuers[0].client_secret is only used with introspection_url",
        ),
        (
            "[internal_key]\nissuer = 'Publisher'",
            2,
            "internal_key.issuer: no entry of issuers has the name or issuer 'Publisher'",
        ),
        (
            "[api_key]\nissuer = 'Keys'",
            2,
            "api_key.issuer: no entry of issuers has the name or issuer 'Keys'",
        ),
        (
            ISSUER + "introspection_url = 'https://i/'\nclient_id = 'a'\nclient_secret = 'b'\n"
            "[api_key]\nissuer = 'https://localhost:9095/testkey'",
            7,
            "api_key.issuer: the entry 'https://localhost:9095/testkey' has no keys of its own",
        ),
        (
            "[internal_key]\nheader = 'Cookie'",
            2,
            "internal_key.header: 'Cookie' cannot be the name of a header for credentials",
        ),
        (
            "authorization_header = 'a b'",
            1,
            "authorization_header: 'a b' cannot be the name of a header for credentials",
        ),
        ("[testkey]\nvalidity = 0", 2, "testkey.validity must be 1 second or more"),
        (
            "[testkey]\nissuer = ''\nenabled = false\n" + ISSUER + "jwks = 'a'",
            2,
            "testkey.issuer is empty",
        ),
        (
            "[[testkey.users]]\nusername = 'a:b'\npassword = 'x'",
            2,
            "testkey.users[0].username is empty or has a colon in it",
        ),
        (
            "[[testkey.users]]\nusername = 'a'\npassword = ''",
            3,
            "testkey.users[0].password is empty",
        ),
        (
            "[[testkey.users]]\nusername = 'a'\npassword = 'x'\n" * 2,
            5,
            "testkey.users[1].username repeats 'a' of testkey.users[0]",
        ),
        ("environments = []", 1, "environments is empty"),
        ("[[environments]]\nname = ''", 2, "environments[0].name is empty"),
        (
            "[[environments]]\nvhost = 'a'\n[[environments]]\nvhost = 'b'",
            3,
            "environments[1].name repeats 'Default' of environments[0]",
        ),
    ],
)
def test_a_broken_rule(file: Path, text: str, line: int, what: str) -> None:
    found = problem(file, text)
    assert (found.file, found.line, found.what) == (str(file), line, what)


@pytest.mark.parametrize(
    "vhost",
    ["", "a b", "localhost:9090", "http://x", "*", "*.", "a.*", "-a", "a..b", "ü", "a" * 64],
)
def test_a_vhost_is_a_host_name(file: Path, vhost: str) -> None:
    found = problem(file, f"[[environments]]\nvhost = '{vhost}'")
    assert found.what == f"environments[0].vhost: {vhost!r} is not a host name"
    assert found.line == 2


@pytest.mark.parametrize(
    "name", ["HS256", "HS384", "hs512", "none", "None", "RS1", "rs256", "ES256K"]
)
def test_only_asymmetric_algorithms_can_be_allowed(file: Path, name: str) -> None:
    found = problem(file, ISSUER + f"jwks = 'a'\nalgorithms = ['RS256', '{name}']")
    assert found.line == 4
    assert f"algorithm '{name}'" in found.what
    if name.upper().startswith("HS"):
        assert "symmetric (HMAC) and is never accepted" in found.what
    elif name.lower() == "none":
        assert "never accepted" in found.what
    else:
        assert "ES256, ES384, ES512, EdDSA, PS256" in found.hint


@pytest.mark.parametrize(
    "url", ["https://idp/jwks", "http://localhost:1/jwks", "http://127.0.0.1/j", "http://[::1]:1/j"]
)
def test_key_set_urls_that_are_fine(file: Path, url: str) -> None:
    assert read(file, ISSUER + f"jwks = '{url}'").problems == ()


def test_every_asymmetric_algorithm_can_be_allowed(file: Path) -> None:
    names = [f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)]
    names.append("EdDSA")
    text = ISSUER + f"jwks = 'a'\nalgorithms = {names}"
    assert read(file, text).settings.issuers[0].algorithms == tuple(names)


# --- the default password ---


@pytest.mark.parametrize("listener", ["http", "https", "admin"])
@pytest.mark.parametrize(
    "address",
    [
        ":0",
        "*:0",
        "0.0.0.0:0",
        "[::]:0",
        "192.168.1.5:0",
        "gateway.example:0",
        "localhost.x:0",
        "[::ffff:127.0.0.1]:0",
        "myhost:0",
    ],
)
def test_the_default_password_is_refused_where_others_can_reach_it(
    file: Path, listener: str, address: str
) -> None:
    found = problem(file, f"[listen]\n{listener} = '{address}'")
    table, kind = ("admin", "admin") if listener == "admin" else ("testkey", "test-key")
    assert found.line == 2
    assert found.what == (
        f"listen.{listener} can be reached from other machines while the {kind} user 'admin'"
        " still has the default password"
    )
    variable = f"TRIO_GW_{table.upper()}_USERS_0_PASSWORD"
    assert variable in found.hint
    assert f"[[{table}.users]]" in found.hint
    # Each of these makes it acceptable.
    text = f"[listen]\n{listener} = '{address}'\n"
    read(file, text, **{variable: "long"})
    read(file, text + f"[[{table}.users]]\nusername = 'admin'\npassword = 'long'")
    if table == "testkey":
        read(file, text, TRIO_GW_TESTKEY_ENABLED="false")


@pytest.mark.parametrize(
    "address", ["localhost:0", "LocalHost.:0", "127.0.0.1:0", "127.9.9.9:0", "[::1]:0", ""]
)
def test_the_default_password_is_fine_on_this_machine_alone(file: Path, address: str) -> None:
    assert read(file, f"[listen]\nhttp = '{address}'").problems == ()


def test_the_variable_for_the_right_user_is_named(file: Path) -> None:
    text = "[[testkey.users]]\nusername = 'a'\npassword = 'x'\n[[testkey.users]]\nusername = 'b'\n"
    found = problem(
        file, text + "password = 'admin'", TRIO_GW_LISTEN_HTTP=":1", TRIO_GW_LISTEN_HTTPS="*:2"
    )
    assert found.file == "TRIO_GW_LISTEN_HTTP"
    assert "listen.http and listen.https can be reached" in found.what
    assert "user 'b'" in found.what
    assert "TRIO_GW_TESTKEY_USERS_1_PASSWORD" in found.hint


# --- warnings ---


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("[testkey]\nusers = []", 2, "testkey has no users"),
        ("issuers = []\n[testkey]\nissuer = 'x'", 3, "no entry of issuers trusts"),
        ("[[issuers]]\nissuer = 'a'\njwks = 'b'", 0, "no entry of issuers trusts"),
        ("[listen]\nhttp = ''\nhttps = ''", 1, "listen.http and listen.https are both off"),
    ],
)
def test_what_is_odd_but_works_is_a_warning(file: Path, text: str, line: int, what: str) -> None:
    (found,) = read(file, text).problems
    assert (found.severity, found.line) == ("warning", line)
    assert what in found.what


def test_without_test_keys_their_issuer_may_be_unknown(file: Path) -> None:
    text = "[testkey]\nenabled = false\nusers = []\n[[issuers]]\nissuer = 'a'\njwks = 'b'"
    assert read(file, text).problems == ()


def test_warnings_come_along_with_errors(file: Path) -> None:
    found = problems(file, "workers = -1\n[testkey]\nusers = []")
    assert [one.severity for one in found] == ["error", "warning"]


def test_every_setting_can_be_set_by_a_variable() -> None:
    """A new field needs no further code: each field has a variable."""
    for field in msgspec.structs.fields(config.Timeouts):
        settings = load(None, {f"TRIO_GW_TIMEOUTS_{field.name.upper()}": "7"}).settings
        assert getattr(settings.timeouts, field.name) == 7.0


def test_environments_of_the_control_plane_are_served() -> None:
    table = {"url": "https://localhost:9443/", "environments": ["Default", "Edge", "EU"]}
    own = [{"name": "Default", "vhost": "ws.example"}, {"name": "EU", "vhost": "eu.example"}]
    found = msgspec.convert({"control_plane": table, "environments": own}, Settings)
    assert [(one.name, one.vhost) for one in found.known_environments] == [
        ("Default", "ws.example"),
        ("EU", "eu.example"),
        ("Edge", "localhost"),
    ]
    off = msgspec.structs.replace(found, control_plane=Settings().control_plane)
    assert off.known_environments == off.environments

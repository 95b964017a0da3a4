"""The AsyncAPI definition, version 2: channels, scopes, mappings, security and servers."""

from __future__ import annotations

import pytest

from support.definitions import Problems, read
from trio_gw.config import asyncapi, document
from trio_gw.config.api import Endpoint, Topic, UriMapping
from trio_gw.config.findings import Findings

OAUTH2 = "components: {securitySchemes: {any: {type: oauth2}}}\n"


def channels(text: str, *, oauth2: bool = True) -> tuple[tuple[Topic, ...], Problems]:
    """Read channels; their text begins on line 3."""
    tail = OAUTH2 if oauth2 else ""
    definition, problems = read(f"asyncapi: 2.0.0\nchannels:\n{text}{tail}")
    return definition.topics, problems


def channel(text: str, name: str = "/rooms/{roomID}") -> tuple[Topic, Problems]:
    """Read one channel with a `publish`; its keys begin on line 5."""
    (topic,), problems = channels(f"  {name}:\n    publish:\n      {text}\n")
    return topic, problems


# --- version ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version",
    [
        "2.0.0",
        "2.1.0",
        "2.2.0",
        "2.3.0",
        "2.4.0",
        "2.5.0",
        "2.6.0",
        "2",
        "2.0",
        "'2.4.0'",
        "2.0.0-rc1",
        "2.x",
        "2.12345",
    ],
)
def test_versions_that_are_read(version: str) -> None:
    definition, problems = read(f"asyncapi: {version}\nchannels: {{/a: {{publish: {{}}}}}}\n")
    assert [topic.name for topic in definition.topics] == ["/a"]
    assert problems == []


@pytest.mark.parametrize(
    ("head", "line", "words"),
    [
        ("asyncapi: 4.0.0", 1, "AsyncAPI version '4.0.0' is not supported"),
        ("asyncapi: 5.0.0", 1, "AsyncAPI version '5.0.0' is not supported"),  # U11
        ("asyncapi: 30.0.0", 1, "AsyncAPI version '30.0.0' is not supported"),
        ("asyncapi: 2-0", 1, "AsyncAPI version '2-0' is not supported"),
        ("asyncapi: 1.2.0", 1, "AsyncAPI version '1.2.0' is not supported"),
        ("x: 1\nasyncapi: 20.0.0", 2, "AsyncAPI version '20.0.0' is not supported"),
        ("x: 1\nasyncapi: []", 2, "`asyncapi` must be text, this is a list"),
        ("asyncapi:", 1, "the key `asyncapi` is missing"),
        ("info: {}", 1, "the key `asyncapi` is missing"),
        ("x: 1\nopenapi: 3.0.0", 2, "this is an OpenAPI definition"),
        ("x: 1\nswagger: '2.0'\nasyncapi: 2.0.0", 2, "this is an OpenAPI definition"),
    ],
)
def test_other_versions_are_one_error(head: str, line: int, words: str) -> None:
    definition, ((where, severity, what),) = read(f"{head}\nchannels: {{}}\n")
    assert (where, severity) == (line, "error")
    assert words in what
    assert definition == asyncapi.Definition()


def test_the_remedy_for_a_wrong_version_says_which_are_read() -> None:
    findings = Findings(document.read(b"asyncapi: 4.0.0\n", "f"))
    asyncapi.read(findings)
    assert "2.x (2.0.0 to 2.6.0) and 3.x" in findings.problems[0].hint


# --- channels --------------------------------------------------------------------------------


def test_channels_become_topics_in_the_order_of_the_file() -> None:
    topics, problems = channels(
        "  /z: {publish: {}}\n"
        "  /a/{id}.json: {subscribe: {}}\n"
        "  /: {publish: {}, subscribe: {}}\n"
        "  /*: {publish: {}}\n"
        "  /q?x=1: {publish: {}}\n"
        "  /~a-b_c.d!$&'()+,;=:@%20|/{x}/{x}/*: {publish: {}}\n"
    )
    assert [topic.name for topic in topics] == [
        "/z",
        "/a/{id}.json",
        "/",
        "/*",
        "/q",
        "/~a-b_c.d!$&'()+,;=:@%20|/{x}/{x}/*",
    ]
    assert topics[0] == Topic("/z", mapping=None, secured=True, scopes=None)
    assert problems == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chat", "does not start with `/`"),
        ("'?x=1'", "does not start with `/`"),
        ("''", "does not start with `/`"),
        ("/a b", "white space"),
        ('"/a\\n"', "white space or a control character"),
        ('"/a\\x07"', "control character"),
        ('"/a\\u202e"', "control character"),
        ("'/a/{}'", "braces that are no parameter"),
        ("'/a/{x'", "braces that are no parameter"),
        ("'/a/x}'", "braces that are no parameter"),
        ("'/a/{{x}}'", "braces that are no parameter"),
        ("'/a/{x/y}'", "braces that are no parameter"),
        ("/" + "x" * 9000, "more than 8,192"),
    ],
)
def test_channel_names_that_cannot_be_topics(name: str, words: str) -> None:
    long = f"  /ok: {{publish: {{}}}}\n  ? {name}\n  : {{publish: {{}}}}\n"
    topics, ((line, severity, what),) = channels(long)
    assert [topic.name for topic in topics] == ["/ok"]
    assert (line, severity) == (5, "error")
    assert words in what


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/a/*/b", "`*`"),
        ("/a*", "`*`"),
        ("/*/*", "`*`"),
        ("/*x", "`*`"),
        ("'/a#b'", "no request can match"),
        ("'/a\\b'", "no request can match"),
    ],
)
def test_channel_names_that_are_hardly_meant(name: str, words: str) -> None:
    topics, ((line, severity, what),) = channels(f"  {name}: {{publish: {{}}}}\n")
    assert [topic.name for topic in topics] == [name.strip("'")]
    assert (line, severity) == (3, "warning")
    assert words in what


def test_a_lone_star_at_the_end_is_the_wildcard() -> None:
    assert channels("  /a/*: {publish: {}}\n  /b/{x}/*: {publish: {}}\n")[1] == []


def test_channels_that_become_one_name() -> None:
    _, problems = channels("  /a?x=1: {publish: {}}\n  /a?y=1: {publish: {}}\n")
    assert problems == []
    _, problems = channels("  /a?x=1: {publish: {}}\n  /a?y=1: {publish: {x-auth-type: None}}\n")
    what = "the channels `/a?x=1` and `/a?y=1` are one topic, `/a`, but their mapping, scopes or"
    assert problems == [(4, "error", f"{what} security differ")]


@pytest.mark.parametrize(
    ("name", "matched"),
    [
        ("/café/{größe}", "/caf%C3%A9/{größe}"),
        ("'/a\"b'", "/a%22b"),
        ("/日本", "/%E6%97%A5%E6%9C%AC"),
    ],
)
def test_names_are_matched_as_clients_send_them(name: str, matched: str) -> None:
    topics, problems = channels(f"  {name}: {{publish: {{}}}}\n")
    assert ([topic.name for topic in topics], problems) == ([matched], [])


# --- root keys of the gateway's own ------------------------------------------------------------


def test_a_path_is_passed_on_where_the_nearest_key_says_so() -> None:
    text = (
        "asyncapi: 2.6.0\nx-trio-gw-pass-path: true\nchannels:\n"
        "  /a: {publish: {}}\n"
        "  /b: {publish: {x-trio-gw-pass-path: false}}\n"
        "  /c: {x-trio-gw-pass-path: false, publish: {}}\n"
        "  /d: {publish: {x-uri-mapping: /e}}\n"
        "  /f: {publish: {x-uri-mapping: /e, x-trio-gw-pass-path: true}}\n"
    )
    definition, problems = read(text)
    assert {topic.name: topic.pass_path for topic in definition.topics} == {
        "/a": True,
        "/b": False,
        "/c": False,
        "/d": False,
        "/f": False,
    }
    ((line, severity, what),) = problems
    assert (line, severity) == (8, "warning")
    assert "has no effect with `x-uri-mapping`" in what


def test_plain_http_is_taken_where_the_nearest_key_says_so() -> None:
    key = "x-trio-gw-plain-http"
    channels = (
        "channels:\n  /a: {publish: {}}\n"
        f"  /b: {{publish: {{{key}: false}}, {key}: true}}\n"
        f"  /c: {{{key}: true, publish: {{}}}}\n"
    )
    for root, taken in (("", {"/c"}), (f"{key}: true\n", {"/a", "/c"})):
        definition, problems = read(f"asyncapi: 2.6.0\n{root}{channels}")
        assert {topic.name for topic in definition.topics if topic.plain_http} == taken
        assert not problems
    _, problems = read(f"asyncapi: 2.6.0\n{key}: maybe\n{channels}")
    assert [problem[:2] for problem in problems] == [(2, "error")]


@pytest.mark.parametrize(
    ("how", "names"),
    [("paths", ["/user/signedup", "/x", "/ws/y"]), ("subjects", ["/", "/x", "/ws/y"])],
)
def test_names_without_a_slash_are_what_the_root_says(how: str, names: list[str]) -> None:
    text = "channels:\n  user/signedup: {publish: {}}\n  /x: {publish: {}}\n"
    text += "  ws://h/ws/y: {publish: {}}\n"
    definition, problems = read(f"asyncapi: 2.6.0\nx-trio-gw-channel-names: {how}\n{text}")
    assert ([topic.name for topic in definition.topics], problems) == (names, [])


def test_what_names_are_is_one_of_two_words() -> None:
    _, problems = read(
        "asyncapi: 2.6.0\nx-trio-gw-channel-names: topics\nchannels: {/a: {publish: }}"
    )
    assert problems[0] == (2, "error", "`x-trio-gw-channel-names` is `topics`")


SERVERS = """\
servers:
  broker: {url: 'mqtt://b.example', protocol: mqtt}
  live: {url: w.example/p, protocol: wss, security: [{oauth: [chat]}]}
channels:
  /a: {servers: [live], publish: {}}
  /b: {servers: [broker], publish: {}}
  /c: {publish: {}}
components: {securitySchemes: {oauth: {type: oauth2}}}
"""


def test_the_server_that_the_root_names_is_the_backend() -> None:
    text = f"asyncapi: 2.6.0\nx-trio-gw-server: live\n{SERVERS}"
    definition, problems = read(text, lone=True)
    assert problems == []
    assert definition.production == Endpoint("wss", "w.example", 443, "/p")
    assert [(topic.name, topic.scopes) for topic in definition.topics] == [
        ("/a", ("chat",)),
        ("/c", ("chat",)),
    ]
    definition, _ = read(text)  # a backend in api.yaml has precedence
    assert definition.production is None
    assert definition.topics[0].scopes == ("chat",)


def test_without_that_key_channels_are_those_of_all_servers() -> None:
    definition, _ = read(f"asyncapi: 2.6.0\n{SERVERS}")
    assert [topic.name for topic in definition.topics] == ["/a", "/b", "/c"]


def test_a_server_that_is_not_there() -> None:
    _, problems = read(f"asyncapi: 2.6.0\nx-trio-gw-server: dev\n{SERVERS}", lone=True)
    assert problems == [(2, "error", "no server is named `dev`")]


def test_a_broker_called_as_a_backend_is_a_warning() -> None:
    text = "asyncapi: 2.6.0\nchannels: {/a: {publish: {}}}\n"
    text += "servers: {production: {url: 'b.example:9092', protocol: kafka}}\n"
    ((line, severity, what),) = read(text)[1]
    assert (line, severity) == (3, "warning")
    assert "speaks kafka, but is called as `ws://b.example:9092`" in what


def test_what_nobody_enforces_is_named() -> None:
    text = (
        "asyncapi: 2.6.0\nchannels:\n"
        "  /a:\n    bindings: {ws: {query: {type: object}, headers: {type: object}}}\n"
        "    publish: {message: {oneOf: [{payload: {type: object}}, {payload: {a: 1}}]}}\n"
        "  /b/{s}:\n    parameters: {s: {schema: {enum: [x]}}}\n    publish: {}\n"
    )
    definition, problems = read(text)
    assert problems == []
    assert definition.unenforced == (
        "payload schemas (2)",
        "ws.query of /a",
        "ws.headers of /a",
        "parameter enums of /b/{s}",
    )


@pytest.mark.parametrize(
    "text", ["/a: {}", "/a:", "/a: {publish: , subscribe: ~}", "/a: {parameters: {}}"]
)
def test_a_channel_without_operations_is_discarded(text: str) -> None:
    topics, ((line, severity, what),) = channels(f"  /b: {{publish: {{}}}}\n  {text}\n")
    assert [topic.name for topic in topics] == ["/b"]
    assert (line, severity) == (4, "warning")
    assert "`/a` has neither `publish` nor `subscribe`: discarded" in what


@pytest.mark.parametrize("text", ["", "channels:\n", "channels: {}\n"])
def test_no_channels_is_an_error(text: str) -> None:
    definition, problems = read(f"asyncapi: 2.0.0\n{text}")
    assert definition.topics == ()
    ((_, severity, what),) = problems
    assert severity == "error"
    assert "no topic" in what


def test_no_usable_channel_is_an_error_beside_the_warning() -> None:
    topics, problems = channels("  /a: {}\n")
    assert topics == ()
    assert [(severity, "no topic" in what) for _, severity, what in problems] == [
        ("error", True),
        ("warning", False),
    ]


def test_wrong_channels_are_not_said_to_be_missing() -> None:
    for text in ("channels: []\n", "channels: {/a: 3}\n", "channels: {a: {publish: {}}}\n"):
        assert len(read(f"asyncapi: 2.0.0\n{text}")[1]) == 1


# --- publish and subscribe -------------------------------------------------------------------


def test_publish_speaks_before_subscribe() -> None:
    (topic,), problems = channels(
        "  /a:\n"
        "    publish: {x-uri-mapping: /p, x-scopes: [p]}\n"
        "    subscribe: {x-uri-mapping: /s, x-scopes: [s], x-auth-type: None}\n"
    )
    assert topic == Topic("/a", UriMapping("/p"), secured=True, scopes=("p",))
    ((line, severity, what),) = problems
    assert (line, severity) == (5, "warning")
    assert "`publish` speaks for the channel `/a`" in what


def test_an_empty_publish_still_speaks() -> None:
    (topic,), problems = channels("  /a:\n    publish: {}\n    subscribe: {x-scopes: [s]}\n")
    assert topic == Topic("/a", None, secured=True, scopes=None)
    assert [(line, severity) for line, severity, _ in problems] == [(5, "warning")]


def test_what_subscribe_holds_beside_publish_is_not_read() -> None:
    (topic,), problems = channels("  /a: {publish: {}, subscribe: {x-scopes: 3}}\n")
    assert topic == Topic("/a")
    assert [severity for _, severity, _ in problems] == ["warning"]


def test_subscribe_without_extensions_beside_publish_is_fine() -> None:
    assert channels("  /a: {publish: {x-scopes: [p]}, subscribe: {message: {}}}\n")[1] == []


def test_security_of_a_subscribe_that_does_not_speak_is_warned_about() -> None:
    text = "  /a:\n    publish: {}\n    subscribe: {security: [{any: [a]}]}\n"
    (topic,), ((line, severity, what),) = channels(text)
    assert topic.scopes is None
    assert (line, severity) == (5, "warning")
    assert "the `security` of `subscribe` are not read" in what


@pytest.mark.parametrize(
    "line", ["x-scopes: [a]", "x-scopes: 3", "x-uri-mapping: /b", "X-Uri-Mapping: []"]
)
def test_mapping_and_scopes_of_a_channel_are_not_read_but_told(line: str) -> None:
    (topic,), ((where, severity, what),) = channels(f"  /a:\n    {line}\n    publish: {{}}\n")
    assert topic == Topic("/a")
    assert (where, severity) == (4, "warning")
    assert "of a channel is not read in AsyncAPI 2" in what


@pytest.mark.parametrize(
    ("trait", "told"),
    [
        ("{x-scopes: [a]}", True),
        ("{security: [{any: [a]}]}", True),
        ("{$ref: '#/components/operationTraits/t'}", True),
        ("{$ref: '#/components/operationTraits/plain'}", False),
        ("{$ref: '#/nowhere'}", False),
        ("{$ref: './other.yaml'}", False),
        ("{description: x}", False),
        ("3", False),
    ],
)
def test_traits_are_not_read_and_those_that_matter_are_told(trait: str, told: bool) -> None:
    definition, problems = read(
        f"asyncapi: 2.0.0\nchannels:\n  /a:\n    publish:\n      traits: [{trait}]\n"
        "components: {operationTraits: {t: {x-auth-type: None}, plain: {summary: x}}}\n"
    )
    assert definition.topics == (Topic("/a"),)
    assert [(line, severity) for line, severity, _ in problems] == [(5, "warning")] * told


def test_subscribe_alone_speaks() -> None:
    for publish in ("", "publish: , "):
        (topic,), problems = channels(
            f"  /a: {{{publish}subscribe: {{x-uri-mapping: /s, x-scopes: [s]}}}}\n"
        )
        assert topic == Topic("/a", UriMapping("/s"), secured=True, scopes=("s",))
        assert problems == []


@pytest.mark.parametrize("value", ["text", "[a]", "3", "true"])
@pytest.mark.parametrize("key", ["publish", "subscribe"])
def test_operations_must_be_mappings(key: str, value: str) -> None:
    topics, ((line, severity, what),) = channels(f"  /a:\n    {key}: {value}\n")
    assert topics == ()
    assert (line, severity) == (4, "error")
    assert f"`{key}` must be a mapping" in what


# --- security --------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["channel", "publish", "subscribe"])
@pytest.mark.parametrize(
    ("text", "secured"),
    [
        ("x-auth-type: None", False),
        ("x-auth-type: Any", True),
        ("x-auth-type: Application & Application User", True),
        ("x-auth-type: null", True),
        ("x-wso2-disable-security: true", False),
        ("x-wso2-disable-security: false", True),
        ("x-wso2-disable-security: false, x-auth-type: None", False),
        ("x-wso2-disable-security: true, x-auth-type: Any", False),
        ("X-Auth-Type: None", False),
        ("x-other: true", True),
    ],
)
def test_security_can_be_switched_off(where: str, text: str, secured: bool) -> None:
    body = f"{text}, publish: {{}}" if where == "channel" else f"{where}: {{{text}}}"
    (topic,), problems = channels(f"  /a: {{{body}}}\n")
    assert topic.secured is secured
    assert problems == []


@pytest.mark.parametrize("written", ["none", "NONE"])
def test_only_the_exact_none_switches_security_off(written: str) -> None:
    topic, ((line, severity, what),) = channel(f"x-auth-type: {written}")
    assert topic.secured
    assert (line, severity) == (5, "warning")
    assert f"`x-auth-type: {written}` does not switch security off" in what


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x-auth-type: [None]", "`x-auth-type` must be text, this is a list"),
        ("x-wso2-disable-security: 'true'", "must be `true` or `false`, this is text"),
        ("x-wso2-disable-security: 1", "must be `true` or `false`, this is a number"),
    ],
)
def test_security_switches_of_the_wrong_type(text: str, words: str) -> None:
    topic, ((line, severity, what),) = channel(text)
    assert topic.secured
    assert (line, severity) == (5, "error")
    assert words in what


# --- scopes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scopes"),
    [
        ("[creator, admin]", ("creator", "admin")),
        ("[]", ()),
        ("{}", ()),
        ("", None),
        ("~", None),
        ("[a, b, a]", ("a", "b")),
        ("[1, 1.10, true]", ("1", "1.10", "true")),
        ('{"0": creator}', ("creator",)),
        ("{10: k, 9: j, 1: b}", ("b", "j", "k")),
        ("[a // first]", ("a",)),
    ],
)
def test_scopes(text: str, scopes: tuple[str, ...] | None) -> None:
    topic, problems = channel(f"x-scopes: {text}")
    assert topic.scopes == scopes
    assert [severity for _, severity, _ in problems] == ["warning"] * ("//" in text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("admin", "`x-scopes` must be a list or a mapping, this is text"),
        ("true", "`x-scopes` must be a list or a mapping, this is `true` or `false`"),
        ("[[a]]", "`x-scopes[0]` must be text, this is a list"),
        ("[a, {b: c}]", "`x-scopes[1]` must be text, this is a mapping"),
        ("[a, ~]", "`x-scopes[1]` must be text, this is empty"),
        ("['']", "is not a scope"),
        ("[a b]", "is not a scope"),
        ('["a\\n"]', "is not a scope"),
        ("{creator: creator}", "its key 'creator' is not a number"),
        ("{-1: creator}", "its key '-1' is not a number"),
        ("{0: [a]}", "`0` must be text, this is a list"),
    ],
)
def test_wrong_scopes(text: str, words: str) -> None:
    _, ((line, severity, what),) = channel(f"x-scopes: {text}")
    assert (line, severity) == (5, "error")
    assert words in what


@pytest.mark.parametrize(
    ("components", "oauth2"),
    [
        ("components: {securitySchemes: {oauth2: {type: oauth2}}}", True),
        ("components: {securitySchemes: {a: {type: http}, b: {type: oauth2}, c: }}", True),
        ("components: {securitySchemes: {oauth2: {type: userPassword}}}", False),
        ("components: {securitySchemes: {oauth2: {type: OAuth2}}}", False),
        ("components: {securitySchemes: {}}", False),
        ("components: {}", False),
        ("components:", False),
        ("", False),
    ],
)
def test_an_oauth2_scheme_is_looked_for(components: str, oauth2: bool) -> None:
    definition, problems = read(
        "asyncapi: 2.0.0\nchannels:\n  /a:\n    publish:\n      x-scopes: []\n"
        "  /open: {x-auth-type: None, publish: {x-scopes: [a]}}\n  /plain: {publish: {}}\n"
        + components
    )
    assert definition.oauth2 is oauth2
    if oauth2:
        assert problems == []
    else:
        ((line, severity, what),) = problems
        assert (line, severity) == (5, "warning")
        assert "every handshake on `/a` will be refused" in what


@pytest.mark.parametrize(
    "text",
    [
        "components: []",
        "components: {securitySchemes: []}",
        "components: {securitySchemes: {a: text}}",
        "components: {securitySchemes: {a: {type: []}}}",
    ],
)
def test_components_of_the_wrong_type(text: str) -> None:
    definition, problems = read(f"asyncapi: 2.0.0\nchannels: {{/a: {{publish: {{}}}}}}\n{text}\n")
    assert not definition.oauth2
    assert [(line, severity) for line, severity, _ in problems] == [(3, "error")]


@pytest.mark.parametrize(("text", "wanted"), [("", None), ("true", True), ("false", False)])
def test_preserve_host_stands_at_the_root(text: str, wanted: bool | None) -> None:
    key = f"x-trio-gw-preserve-host: {text}\n" if text else ""
    definition, problems = read(f"asyncapi: 2.0.0\n{key}channels: {{/a: {{publish: {{}}}}}}\n")
    assert (definition.preserve_host, problems) == (wanted, [])
    _, problems = read("asyncapi: 2.0.0\nx-trio-gw-preserve-host: maybe\nchannels: {}\n")
    assert (2, "error") in [problem[:2] for problem in problems]


# --- mappings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mapping"),
    [
        ("/notifications", UriMapping("/notifications")),
        ("notifications", UriMapping("/notifications")),
        ("/notifications/", UriMapping("/notifications/")),
        ("socket.io/", UriMapping("/socket.io/")),
        ("/", UriMapping("/")),
        ("/a//", UriMapping("/a//")),
        ("/a%20b/caf%C3%A9/%7e", UriMapping("/a%20b/caf%C3%A9/%7e")),
        ("/%2F{uri.var.roomID}%2f", UriMapping("/%2F{uri.var.roomID}%2f")),
        ("/a~b_c.d-e/F9", UriMapping("/a~b_c.d-e/F9")),
        ("/r/{uri.var.roomID}/x/", UriMapping("/r/{uri.var.roomID}/x/")),
        ("/{uri.var.roomID}.pet", UriMapping("/{uri.var.roomID}.pet")),
        (
            "'{uri.var.roomID}/{uri.var.roomID}'",
            UriMapping("/{uri.var.roomID}/{uri.var.roomID}"),
        ),
        ("/rooms?room={uri.var.roomID}", UriMapping("/rooms", (("room", "{uri.var.roomID}"),))),
        ("/socket.io/?EIO=4&a=1", UriMapping("/socket.io/", (("EIO", "4"), ("a", "1")))),
        ("/r?a=x%20y+z%26&%C3%A9=%7e", UriMapping("/r", (("a", "x%20y+z%26"), ("%C3%A9", "%7e")))),
        ("/r?a=1=2&b=", UriMapping("/r", (("a", "1=2"), ("b", "")))),
        ("/r?&a=1&&", UriMapping("/r", (("a", "1"),))),
        ("/r?a=1?b", UriMapping("/r", (("a", "1?b"),))),
        ("/r?", UriMapping("/r")),
        ("~", None),
        ("12", UriMapping("/12")),
    ],
)
def test_mappings(text: str, mapping: UriMapping | None) -> None:
    topic, problems = channel(f"x-uri-mapping: {text}")
    assert topic.mapping == mapping
    assert problems == []


def test_a_parameter_of_a_mapping_that_is_given_twice() -> None:
    topic, problems = channel("x-uri-mapping: /rooms/?b=2&a=1&%62=3")
    assert topic.mapping == UriMapping("/rooms/", (("%62", "3"), ("a", "1")))
    assert [severity for _, severity, _ in problems] == ["warning"]
    assert "the parameter `b` is given twice" in problems[0][2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("''", "the mapping has no path"),
        ("'   '", "the mapping has no path"),
        ("?a=1", "the mapping has no path"),
        ("[/a]", "`x-uri-mapping` must be text, this is a list"),
        ("{a: /b}", "`x-uri-mapping` must be text, this is a mapping"),
        ("/a b", "invalid character ' '"),
        ("/a%2", "invalid character '%'"),
        ("/a%zz", "invalid character '%'"),
        ("/%{uri.var.roomID}", "invalid character '%'"),
        ("/a%0d%0ab", "holds an escaped backslash or control character"),
        ("/a%00", "holds an escaped backslash or control character"),
        ("/a%5Cb", "holds an escaped backslash or control character"),
        ("/caf\u00e9", "invalid character 'é'"),
        ("'/a#b'", "invalid character '#'"),
        ("'/a\\1'", "invalid character '\\\\'"),
        ('"/a\\n"', "invalid character '\\n'"),
        ("/abc/{roomID}", "invalid character '{'"),
        ("/abc/{uri.var.roomID", "invalid character '{'"),
        ("/abc/{uri.var.nope}", 'invalid path param "nope" in rewrite path'),
        ("/abc/{uri.var.ROOMID}", 'invalid path param "ROOMID"'),
        ("/abc/{uri.var.}", 'invalid path param ""'),
        ("/a?x={uri.var.nope}", 'invalid path param "nope"'),
        ("/a?x", "`x` is not written `name=value`"),
        ("/a?b=1&x", "`x` is not written `name=value`"),
        ("/a?=1", "`=1` is not written `name=value`"),
        ("'/a?{uri.var.roomID}=1'", "cannot be the name"),
        ("'/a?x={roomID}'", "a brace that is not part of a placeholder"),
        ("'/a?x={uri.var.roomID'", "a brace that is not part of a placeholder"),
        ("/a?x=%zz", "not percent-encoded UTF-8"),
        ("/a?x=%", "not percent-encoded UTF-8"),
        ("/a?x=%ff", "not percent-encoded UTF-8"),
        ("/a?x=%0d%0aHost:y", "a control character"),
        ("/a?%00=y", "a control character"),
    ],
)
def test_wrong_mappings(text: str, words: str) -> None:
    topic, ((line, severity, what),) = channel(f"x-uri-mapping: {text}")
    assert topic.mapping is None
    assert (line, severity) == (5, "error")
    assert "`x-uri-mapping`" in what
    assert words in what


def test_the_remedy_for_an_unknown_parameter_names_the_known_ones() -> None:
    for name, known in (("/a/{x}/{y}", "`{x}`, `{y}`"), ("/a", "no parameters")):
        operation = "{publish: {x-uri-mapping: '/{uri.var.z}'}}"
        text = f"asyncapi: 2.0.0\nchannels: {{'{name}': {operation}}}"
        findings = Findings(document.read(text.encode(), "f"))
        asyncapi.read(findings)
        assert known in findings.problems[0].hint


def test_a_parameter_in_the_cut_part_of_a_channel_is_none() -> None:
    _, ((_, severity, what),) = channel("x-uri-mapping: /{uri.var.x}", "/a?q={x}")
    assert severity == "error"
    assert 'invalid path param "x"' in what


def test_text_around_a_placeholder_of_the_query_is_warned_about() -> None:
    topic, ((line, severity, what),) = channel("x-uri-mapping: /a?room=no-{uri.var.roomID}")
    assert topic.mapping == UriMapping("/a", (("room", "no-{uri.var.roomID}"),))
    assert (line, severity) == (5, "warning")
    assert "`room` is not sent" in what


# --- servers ---------------------------------------------------------------------------------


def servers(text: str) -> tuple[asyncapi.Definition, Problems]:
    """Read servers; their text begins on line 4."""
    return read(f"asyncapi: 2.0.0\nchannels: {{/a: {{publish: {{}}}}}}\nservers:\n{text}")


def test_servers_give_endpoints_by_two_names() -> None:
    definition, problems = servers(
        "  production: {url: 'wss://ws.ifelse.io:443', protocol: wss}\n"
        "  sandbox: {url: 'sandbox.example/v1'}\n"
    )
    assert definition.production == Endpoint("wss", "ws.ifelse.io", 443)
    assert definition.sandbox == Endpoint("ws", "sandbox.example", 80, "/v1")
    assert problems == []


def test_names_of_servers_match_regardless_of_case() -> None:
    definition, problems = servers("  Production: {url: 'ws://p'}\n  SANDBOX: {url: 'ws://s'}\n")
    assert definition.production == Endpoint("ws", "p", 80)
    assert definition.sandbox == Endpoint("ws", "s", 80)
    assert problems == []


def test_one_server_in_two_spellings_is_an_error() -> None:
    text = "  production: {url: 'ws://p'}\n  Production: {url: 'ws://q'}\n"
    _, ((line, severity, what),) = servers(text)
    assert (line, severity) == (5, "error")
    assert "`production` on line 4 and `Production` on line 5" in what


@pytest.mark.parametrize("lone", [True, False])
def test_other_servers_are_named_in_one_warning_and_not_read(lone: bool) -> None:
    text = (
        "asyncapi: 2.0.0\nchannels: {/a: {publish: {}}}\nservers:\n"
        "  production: {url: 'ws://p'}\n  staging: {url: 3}\n  dev: {$ref: './elsewhere'}\n"
    )
    definition, ((line, severity, what),) = read(text, lone=lone)
    assert definition.production == Endpoint("ws", "p", 80)
    assert (line, severity) == (5, "warning")
    assert what.endswith("not used: `staging`, `dev`")


def test_a_lone_server_is_production_where_nothing_else_is() -> None:
    text = "asyncapi: 2.0.0\nchannels: {/a: {publish: {}}}\nservers: {dev: {url: 'ws://d/x'}}\n"
    definition, problems = read(text, lone=True)
    assert definition.production == Endpoint("ws", "d", 80, "/x")
    assert definition.sandbox is None
    assert problems == []
    definition, ((line, severity, what),) = read(text)
    assert definition.production is None
    assert (line, severity) == (3, "warning")
    assert "not used: `dev`" in what


def test_two_servers_are_not_lone() -> None:
    servers = "{dev: {url: 'ws://d'}, test: {url: 'ws://t'}}"
    text = f"asyncapi: 2.0.0\nchannels: {{/a: {{publish: {{}}}}}}\nservers: {servers}\n"
    definition, ((_, severity, what),) = read(text, lone=True)
    assert definition.production is None
    assert severity == "warning"
    assert "`dev`, `test`" in what


def test_a_lone_sandbox_stays_the_sandbox() -> None:
    text = "asyncapi: 2.0.0\nchannels: {/a: {publish: {}}}\nservers: {sandbox: {url: 'ws://s'}}\n"
    definition, problems = read(text, lone=True)
    assert definition.production is None
    assert definition.sandbox == Endpoint("ws", "s", 80)
    assert problems == []


def test_a_lone_server_that_is_no_websocket_is_an_error() -> None:
    text = "asyncapi: 2.0.0\nchannels: {/a: {publish: {}}}\nservers: {mq: {url: 'mqtt://m'}}\n"
    _, ((line, severity, what),) = read(text, lone=True)
    assert (line, severity) == (3, "error")
    assert "server `mq`: the scheme `mqtt` is not supported" in what


@pytest.mark.parametrize(
    "text",
    ["", "  production:\n", "  production: {url: }\n", "  production: {url: '  '}\n"],
)
def test_no_server_is_no_endpoint(text: str) -> None:
    definition, problems = servers(text)
    assert definition.production is None
    assert definition.sandbox is None
    assert problems == []


def test_variables_of_a_server_take_their_defaults() -> None:
    definition, problems = servers(
        "  production:\n"
        "    url: '{scheme}://{host}:{port}/v2?x={q}'\n"
        "    variables:\n"
        "      scheme: {default: wss}\n"
        "      host: {default: b.example, enum: [b.example]}\n"
        "      port: {default: 8443}\n"
        "      q: {default: ''}\n"
    )
    assert definition.production == Endpoint("wss", "b.example", 8443, "/v2", "x=")
    assert problems == []


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("  production: {url: 'ws://{host}/'}\n", 4, "`{host}` in the URL of server `production`"),
        ("  sandbox:\n    url: ws://{a}\n    variables: {a: , b: {default: x}}\n", 5, "`{a}`"),
        ("  production:\n    url: ws://{a}\n    variables: {a: {default: 'x y'}}\n", 5, "white"),
        ("  production: {url: 'ftp://h'}\n", 4, "server `production`: the scheme `ftp`"),
        ("  sandbox: {url: /relative}\n", 4, "relative urls or empty values"),
        ("  production: {url: [a]}\n", 4, "`url` must be text, this is a list"),
        ("  production: text\n", 4, "`production` must be a mapping, this is text"),
        ("  production: {url: a, variables: [b]}\n", 4, "`variables` must be a mapping"),
        ("  - production\n", 4, "`servers` must be a mapping, this is a list"),
    ],
)
def test_wrong_servers(text: str, line: int, words: str) -> None:
    definition, ((where, severity, what),) = servers(text)
    assert (definition.production, definition.sandbox) == (None, None)
    assert (where, severity) == (line, "error")
    assert words in what


def test_a_protocol_that_asks_for_tls_without_a_scheme_is_warned_about() -> None:
    definition, ((line, severity, what),) = servers("  production: {url: h, protocol: wss}\n")
    assert definition.production == Endpoint("ws", "h", 80)
    assert (line, severity) == (4, "warning")
    assert "`protocol` is not read" in what
    assert servers("  production: {url: h, protocol: ws}\n")[1] == []
    assert servers("  production: {url: 'ws://h', protocol: wss}\n")[1] == []

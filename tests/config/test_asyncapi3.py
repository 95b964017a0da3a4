"""AsyncAPI 3: channels by address, operations by direction, `$ref`, security at both levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.definitions import Problems, read
from trio_gw.config.api import Endpoint, Topic, UriMapping

if TYPE_CHECKING:
    from trio_gw.config.asyncapi import Definition

SCHEMES = """\
components:
  securitySchemes:
    oauth: {type: oauth2, flows: {}, scopes: [reader]}
    other: {type: oauth2, flows: {}, scopes: [writer]}
    basic: {type: userPassword}
"""


def three(text: str, *, lone: bool = False) -> tuple[Definition, Problems]:
    """Read an AsyncAPI 3 document; the text begins on line 2."""
    return read(f"asyncapi: 3.0.0\n{text}", lone=lone)


def operations(text: str, *, channel: str = "{address: /c}") -> tuple[Topic | None, Problems]:
    """Read one channel `c`; the operations begin on line 4."""
    definition, problems = three(f"channels: {{c: {channel}}}\noperations:\n{text}{SCHEMES}")
    return (definition.topics or (None,))[0], problems


def receive(*keys: str, name: str = "in", action: str = "receive") -> str:
    inside = ", ".join((f"action: {action}", "channel: {$ref: '#/channels/c'}", *keys))
    return f"  {name}: {{{inside}}}\n"


# -- versions --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["3", "3.0.0", "3.1.0", "'3.0.0'", "3.0.0-next"])
def test_versions(version: str) -> None:
    text = f"asyncapi: {version}\nchannels: {{c: {{address: /c}}}}\noperations:\n{receive()}"
    definition, problems = read(text)
    assert ([topic.name for topic in definition.topics], problems) == (["/c"], [])


# -- channels and operations -------------------------------------------------------------------


def test_channels_are_topics_by_their_address_in_the_order_of_the_file() -> None:
    definition, problems = three(
        "channels:\n"
        "  second: {address: '/rooms/{id}'}\n"
        "  /first: {address: /news}\n"
        "operations:\n"
        "  a: {action: send, channel: {$ref: '#/channels/~1first'}}\n"
        "  b: {action: receive, channel: {$ref: '#/channels/second'}}\n"
    )
    assert problems == []
    assert definition.topics == (Topic("/rooms/{id}"), Topic("/news"))


def test_receive_is_what_clients_publish_and_speaks_first() -> None:
    text = receive("x-uri-mapping: /in", "x-scopes: [a]")
    text += receive("x-uri-mapping: /out", name="out", action="send")
    topic, problems = operations(text)
    assert topic == Topic("/c", UriMapping("/in"), scopes=("a",))
    ((line, severity, what),) = problems
    assert (line, severity) == (5, "warning")
    assert what.startswith("`receive` speaks for the channel `/c`")


def test_send_alone_speaks() -> None:
    topic, problems = operations(receive("x-uri-mapping: /out", action="send"))
    assert (topic, problems) == (Topic("/c", UriMapping("/out")), [])


def test_extensions_of_a_channel_hold_for_its_operation() -> None:
    channel = "{address: /c, x-uri-mapping: /ch, x-scopes: [ch], x-auth-type: None}"
    topic, problems = operations(receive(), channel=channel)
    assert (topic, problems) == (Topic("/c", UriMapping("/ch"), False, ("ch",)), [])
    topic, problems = operations(receive("x-uri-mapping: /op", "x-scopes: [op]"), channel=channel)
    assert (topic, problems) == (Topic("/c", UriMapping("/op"), False, ("op",)), [])


def test_operations_of_one_side_that_differ_are_an_error() -> None:
    same = receive("x-scopes: [a]") + receive("x-scopes: [a]", name="more")
    assert operations(same) == (Topic("/c", scopes=("a",)), [])
    _, problems = operations(receive("x-scopes: [a]") + receive(name="more"))
    ((line, severity, what),) = problems
    assert (line, severity) == (5, "error")
    assert "`in` and `more` are one topic" in what


def test_two_channels_with_one_address() -> None:
    _, problems = three(
        "channels:\n  a: {address: /c}\n  b: {address: /c}\n"
        "operations:\n"
        "  a: {action: send, channel: {$ref: '#/channels/a'}}\n"
        "  b: {action: send, channel: {$ref: '#/channels/b'}}\n"
    )
    assert problems == []


SHARED = """\
channels: {ping: {address: /}, pong: {address: /}, told: {address: /}}
operations:
  p: {action: send, channel: {$ref: '#/channels/ping'}}
"""


def test_channels_of_one_address_are_one_topic() -> None:
    definition, problems = three(
        SHARED + "  q: {action: receive, channel: {$ref: '#/channels/pong'}}\n"
    )
    assert (definition.topics, problems) == ((Topic("/"),), [])


def test_channels_of_one_address_have_to_agree() -> None:
    _, problems = three(
        SHARED + "  q: {action: receive, channel: {$ref: '#/channels/pong'}, x-auth-type: None}\n"
    )
    ((line, severity, what),) = problems
    assert (line, severity) == (2, "error")
    assert "the channels `ping` and `pong` are one topic, `/`" in what


def test_without_operations_every_channel_is_a_topic() -> None:
    definition, problems = three("channels: {t: {address: /t}, u: {address: /u}}\n")
    assert [topic.name for topic in definition.topics] == ["/t", "/u"]
    ((line, severity, what),) = problems
    assert (line, severity) == (2, "warning")
    assert "there are no `operations`" in what


@pytest.mark.parametrize("address", ["", "address: null"])
def test_channels_without_any_address_are_one_connection(address: str) -> None:
    definition, problems = three(
        f"channels: {{a: {{{address}}}, b: {{}}}}\noperations:\n"
        "  o: {action: send, channel: {$ref: '#/channels/a'}}\n"
        "  p: {action: send, channel: {$ref: '#/channels/b'}}\n"
    )
    assert definition.topics == (Topic("/"),)
    ((line, severity, what),) = problems
    assert (line, severity) == (2, "warning")
    assert "no channel has an address" in what


def test_a_channel_named_where_it_is_written_out() -> None:
    text = (
        "channels: {c: {$ref: '#/components/channels/a'}}\n"
        "operations: {o: {action: send, channel: {$ref: '#/components/channels/a'}}}\n"
        "components: {channels: {a: {address: /a}, b: {address: /b}}}\n"
    )
    definition, problems = three(text)
    assert (definition.topics, problems) == ((Topic("/a"),), [])
    _, problems = three(text.replace("components/channels/a'}}}", "components/channels/b'}}}"))
    assert [line for line, _, what in problems if "is not one of `channels`" in what] == [3]


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ("{}", "has no address"),
        ("{address: null}", "has no address"),
    ],
)
def test_a_channel_without_an_address_is_skipped(channel: str, words: str) -> None:
    text = "channels:\n  c: {address: /c}\n  d: " + channel + "\noperations:\n" + receive()
    definition, problems = three(text)
    assert [topic.name for topic in definition.topics] == ["/c"]
    ((line, severity, what),) = problems
    assert (line, severity) == (4, "warning")
    assert words in what


def test_a_channel_that_no_operation_uses_is_discarded() -> None:
    text = "channels:\n  c: {address: /c}\n  d: {address: /d}\noperations:\n" + receive()
    definition, problems = three(text)
    assert [topic.name for topic in definition.topics] == ["/c"]
    assert problems[0][1:] == ("warning", "no operation uses the channel `/d`: discarded")


@pytest.mark.parametrize("text", ["", "channels: {}\n", "operations: {}\n"])
def test_no_topic_is_an_error(text: str) -> None:
    definition, problems = three(text)
    assert definition.topics == ()
    assert [severity for _, severity, _ in problems] == ["error"]
    assert problems[0][2] == "no topic: there is no channel with an address and an operation"


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("{channel: {$ref: '#/channels/c'}}", "has no `action` that is known"),
        ("{action: publish, channel: {$ref: '#/channels/c'}}", "has no `action` that is known"),
        ("{action: receive}", "is not named by a `$ref`"),
        ("{action: receive, channel: {}}", "is not named by a `$ref`"),
        ("{action: receive, channel: {$ref: '#/channels/gone'}}", "is not in this file"),
        ("{action: receive, channel: {$ref: '#/components/channels/c'}}", "is not in this file"),
        ("{action: receive, channel: {$ref: 'other.yaml#/c'}}", "points out of this file"),
        ("{action: receive, channel: c}", "mapping"),
        ("text", "mapping"),
    ],
)
def test_an_operation_that_cannot_be_placed_is_an_error(operation: str, words: str) -> None:
    """It may hold the security of its channel; the channel must not be served without it."""
    _, problems = operations(receive() + f"  x: {operation}\n")
    errors = [(line, what) for line, severity, what in problems if severity == "error"]
    assert [line for line, _ in errors] == [5]
    assert words in errors[0][1]


# -- references --------------------------------------------------------------------------------


def test_references_are_followed_where_they_may_stand() -> None:
    definition, problems = three(
        "servers: {production: {$ref: '#/components/servers/main'}}\n"
        "channels: {c: {$ref: '#/components/channels/c'}}\n"
        "operations: {o: {$ref: '#/components/operations/o'}}\n"
        "components:\n"
        "  servers: {main: {host: 'h:1', protocol: wss, pathname: '/{v}', variables:"
        " {v: {$ref: '#/components/serverVariables/v'}}}}\n"
        "  serverVariables: {v: {default: v2}}\n"
        "  channels: {c: {address: /c}}\n"
        "  operations:\n"
        "    o:\n"
        "      action: receive\n"
        "      channel: {$ref: '#/channels/c'}\n"
        "      security: [{$ref: '#/components/securitySchemes/s'}]\n"
        "  securitySchemes: {s: {type: oauth2, flows: {}, scopes: [reader]}}\n"
    )
    assert problems == []
    assert definition.production == Endpoint("wss", "h", 1, "/v2")
    assert definition.topics == (Topic("/c", scopes=("reader",)),)
    assert definition.oauth2


def test_a_reference_that_leads_nowhere_is_an_error() -> None:
    """In AsyncAPI 3 each operation matters, so none may be dropped silently."""
    _, problems = operations(receive() + "  x: {$ref: '#/components/operations/x'}\n")
    assert [(line, severity) for line, severity, _ in problems] == [(5, "error")]


# -- security --------------------------------------------------------------------------------

OAUTH, OTHER = (f"{{$ref: '#/components/securitySchemes/{name}'}}" for name in ("oauth", "other"))


@pytest.mark.parametrize(
    ("security", "scopes"),
    [
        (f"[{OAUTH}]", ("reader",)),
        (f"[{OAUTH}, {OTHER}]", ("reader", "writer")),
        ("[{type: oauth2, flows: {}, scopes: [inline]}]", ("inline",)),
        ("[{type: oauth2, flows: {}}]", None),
        ("[]", None),
    ],
)
def test_security_of_an_operation(security: str, scopes: tuple[str, ...] | None) -> None:
    topic, problems = operations(receive(f"security: {security}"))
    assert (topic, problems) == (Topic("/c", scopes=scopes), [])


def test_a_scheme_with_two_scopes_lets_one_do_and_says_so() -> None:
    topic, problems = operations(receive("security: [{type: oauth2, flows: {}, scopes: [a, b]}]"))
    assert topic == Topic("/c", scopes=("a", "b"))
    assert [severity for _, severity, _ in problems] == ["warning"]
    assert "any one of them" in problems[0][2]


def test_x_scopes_win_over_security() -> None:
    topic, problems = operations(receive("x-scopes: [mine]", f"security: [{OAUTH}]"))
    assert (topic, problems) == (Topic("/c", scopes=("mine",)), [])


def test_security_of_a_kind_that_has_no_equivalent_is_told() -> None:
    reference = "{$ref: '#/components/securitySchemes/basic'}"
    topic, problems = operations(receive(f"security: [{reference}]"))
    assert topic == Topic("/c")
    assert [severity for _, severity, _ in problems] == ["warning"]


def served(servers: str, operation: str = receive()) -> tuple[tuple[Topic, ...], Problems]:
    text = f"servers: {{{servers}}}\nchannels: {{c: {{address: /c}}}}\noperations:\n{operation}"
    definition, problems = three(text + SCHEMES)
    return definition.topics, problems


def test_security_of_the_server_holds_for_all_topics() -> None:
    server = f"production: {{host: h, protocol: ws, security: [{OAUTH}]}}"
    assert served(server) == ((Topic("/c", scopes=("reader",)),), [])
    own = receive(f"security: [{OTHER}]")
    assert served(server, own) == ((Topic("/c", scopes=("writer",)),), [])


def test_security_of_a_server_that_is_no_backend_does_not_hold() -> None:
    production = "production: {host: h, protocol: ws}"
    topics, problems = served(f"{production}, dev: {{host: d, security: [{OAUTH}]}}")
    assert topics == (Topic("/c"),)
    assert [severity for _, severity, _ in problems] == ["warning"]


def test_production_speaks_for_both_servers() -> None:
    production = f"production: {{host: h, protocol: ws, security: [{OAUTH}]}}"
    sandbox = f"sandbox: {{host: s, protocol: ws, security: [{OTHER}]}}"
    topics, problems = served(f"{production}, {sandbox}")
    assert topics == (Topic("/c", scopes=("reader",)),)
    assert [severity for _, severity, _ in problems] == ["warning"]
    assert served(sandbox) == ((Topic("/c", scopes=("writer",)),), [])


# -- servers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "endpoint"),
    [
        ("{host: 'h:1', protocol: ws}", Endpoint("ws", "h", 1)),
        ("{host: h, protocol: wss, pathname: /v2/}", Endpoint("wss", "h", 443, "/v2/")),
        ("{host: h, protocol: https, pathname: v2}", Endpoint("wss", "h", 443, "/v2")),
        (
            "{host: '{region}.h', protocol: ws, variables: {region: {default: eu}}}",
            Endpoint("ws", "eu.h", 80),
        ),
    ],
)
def test_servers(server: str, endpoint: Endpoint) -> None:
    text = f"servers: {{production: {server}}}\n"
    definition, problems = three(text + "channels: {c: {address: /c}}\noperations:\n" + receive())
    assert (definition.production, problems) == (endpoint, [])


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("{url: 'ws://h', protocol: ws}", "has no `host`"),
        ("{host: h}", "has no `protocol`"),
        ("{host: 'ws://h', protocol: ws}", "holds more than a host and a port"),
        ("{host: h/v2, protocol: ws}", "holds more than a host and a port"),
        ("{host: h, protocol: kafka}", "the scheme `kafka` is not supported"),
        ("{host: '{r}.h', protocol: ws}", "has no default"),
    ],
)
def test_wrong_servers(server: str, words: str) -> None:
    text = f"servers: {{production: {server}}}\nchannels: {{c: {{address: /c}}}}\n"
    definition, problems = three(f"{text}operations:\n{receive()}")
    assert definition.production is None
    ((line, severity, what),) = problems
    assert (line, severity) == (2, "error")
    assert words in what

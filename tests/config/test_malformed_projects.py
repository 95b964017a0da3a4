"""Broken projects of each kind: never an exception, always a problem with a usable hint."""

from __future__ import annotations

import datetime
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.examples import examples
from trio_gw.config import project
from trio_gw.config.document import MAX_SIZE
from trio_gw.errors import Problem, has_errors

API = """\
type: api
version: v4.1.0
data:
  name: Chat
  version: 1.0.0
  context: /chat
  type: WS
  lifeCycleStatus: PUBLISHED
  isDefaultVersion: false
  apiThrottlingPolicy: Gold
  authorizationHeader: Authorization
  organizationId: carbon.super
  endpointImplementationType: ENDPOINT
  id: 0001
  endpointConfig:
    production_endpoints:
      url: ws://backend.example/chat
    sandbox_endpoints:
      - url: ws://sandbox.example/chat
"""
DEFINITION = """\
asyncapi: 2.0.0
servers:
  production:
    url: ws://backend.example
channels:
  /rooms/{roomID}:
    publish:
      x-uri-mapping: /rooms?room={uri.var.roomID}
      x-scopes: [reader]
    x-auth-type: Any
components:
  securitySchemes:
    oauth2:
      type: oauth2
"""
DEPLOYMENTS = """\
type: deployment_environments
data:
  - deploymentEnvironment: Default
    deploymentVhost: us.example.com
"""
FILES = {
    "api.yaml": API.encode(),
    "Definitions/asyncapi.yaml": DEFINITION.encode(),
    "deployment_environments.yaml": DEPLOYMENTS.encode(),
}
FOLDER = "apis/Chat"


def load(files: dict[str, bytes]) -> project.LoadedProject:
    """Load the project, and check what must hold for each result."""
    loaded = project.load(files, FOLDER)
    assert (loaded.project is None) == has_errors(loaded.problems)
    assert list(loaded.problems) == sorted(set(loaded.problems))
    for problem in loaded.problems:
        assert problem.file == FOLDER or problem.file.removeprefix(f"{FOLDER}/") in files
        assert problem.line >= 0
        assert problem.column >= 0
        assert problem.what
        assert problem.hint
        assert str(problem).isprintable()
        assert len(str(problem)) < 1000
    return loaded


def errors(files: dict[str, bytes]) -> list[Problem]:
    return [problem for problem in load(files).problems if problem.severity == "error"]


def edited(name: str, old: str, new: str) -> dict[str, bytes]:
    """Replace text that stands exactly once in one of the files."""
    text = FILES[name].decode()
    assert text.count(old) == 1
    return {**FILES, name: text.replace(old, new).encode()}


def replaced(name: str, data: bytes | str) -> dict[str, bytes]:
    return {**FILES, name: data.encode() if isinstance(data, str) else data}


def test_the_untouched_project_loads() -> None:
    loaded = load(FILES)
    assert loaded.project is not None
    assert loaded.problems == ()


# --- one edit in api.yaml, one error ---------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        # Missing and empty.
        ("  name: Chat\n", "", 3, "API Name cannot be empty for unknownAPIName 1.0.0"),
        ("name: Chat", "name:", 4, "API Name cannot be empty for unknownAPIName 1.0.0"),
        ("name: Chat", "name: '  '", 4, "API Name cannot be empty"),
        ("name: Chat", "name: // later", 4, "API Name cannot be empty"),
        ("  version: 1.0.0\n", "", 3, "API Version cannot be empty for Chat unknownAPIVersion"),
        ("version: 1.0.0", "version: ~", 5, "API Version cannot be empty"),
        ("  context: /chat\n", "", 3, "API Context cannot be empty for Chat 1.0.0"),
        ("context: /chat", "context: ''", 6, "API Context cannot be empty"),
        ("  type: WS\n", "", 3, "`data.type` is missing"),
        ("type: WS", "type:", 7, "`data.type` is missing"),
        # Of the wrong type.
        ("id: 0001", "id: [1]", 14, "`id` must be text, this is a list"),
        ("name: Chat", "NAME: []", 4, "`name` must be text, this is a list"),
        ("name: Chat", "name: {a: b}", 4, "`name` must be text, this is a mapping"),
        ("version: 1.0.0", "version: [1, 0]", 5, "`version` must be text, this is a list"),
        ("context: /chat", "context: {}", 6, "`context` must be text, this is a mapping"),
        ("type: WS", "type: [WS]", 7, "`type` must be text, this is a list"),
        ("lifeCycleStatus: PUBLISHED", "lifeCycleStatus: []", 8, "`lifeCycleStatus` must be text"),
        ("isDefaultVersion: false", "isDefaultVersion: 'no'", 9,
         "`isDefaultVersion` must be `true` or `false`, this is text"),
        ("isDefaultVersion: false", "isDefaultVersion: 0", 9, "this is a number"),
        ("apiThrottlingPolicy: Gold", "apiThrottlingPolicy: [Gold]", 10,
         "`apiThrottlingPolicy` must be text"),
        ("authorizationHeader: Authorization", "authorizationHeader: {}", 11,
         "`authorizationHeader` must be text"),
        ("organizationId: carbon.super", "organizationId: [a]", 12,
         "`organizationId` must be text"),
        ("endpointImplementationType: ENDPOINT", "endpointImplementationType: []", 13,
         "`endpointImplementationType` must be text"),
        ("    url: ws://backend.example/chat", "    url: [ws://a]", 17, "`url` must be text"),
        ("\n      url: ws://backend.example/chat", " text", 16,
         "`production_endpoints` must be a list or a mapping, this is text"),
        ("    - url: ws://sandbox.example/chat", "    - text", 19,
         "`sandbox_endpoints[0]` must be a mapping, this is text"),
        # Of the wrong value.
        ("type: WS", "type: HTTP", 7, "currently not supported. API type: HTTP"),
        ("type: WS", "type: websub", 7, "currently not supported. API type: WEBSUB"),
        ("type: WS", 'type: "W\\nS"', 7, "currently not supported. API type: W\\nS"),
        ("name: Chat", 'name: "Ch\\nat"', 4, "`name` holds a control character"),
        ("id: 0001", 'id: "\\0"', 14, "`id` holds a control character"),
        ("organizationId: carbon.super", 'organizationId: "a\\tb"', 12, "control character"),
        ("apiThrottlingPolicy: Gold", 'apiThrottlingPolicy: "\\x1b[1m"', 10, "control character"),
        ("name: Chat", f"name: {'x' * 9000}", 4, "more than 8,192"),
        ("context: /chat", "context: chat", 6, "invalid basepath"),
        ("context: /chat", "context: /ch at", 6, "invalid basepath"),
        ("context: /chat", "context: /ERROR-Hello%20W", 6, "invalid basepath"),
        ("context: /chat", "context: /chat?x", 6, "invalid basepath"),
        ("context: /chat", "context: /{version}/chat", 6, "invalid basepath"),
        ("context: /chat", 'context: "/chat\\n"', 6, "invalid basepath"),
        ("context: /chat", "context: /caf\u00e9", 6, "invalid basepath"),
        ("context: /chat", "context: /a/*", 6, "invalid basepath"),
        ("version: 1.0.0", "version: 1 0", 5, "invalid basepath"),
        ("version: 1.0.0", "version: '1?0'", 5, "invalid basepath"),
        ("version: 1.0.0", "version: '{v}'", 5, "invalid basepath"),
        ("authorizationHeader: Authorization", "authorizationHeader: a b", 11,
         "not a valid header name"),
        ("authorizationHeader: Authorization", "authorizationHeader: 'x:'", 11,
         "not a valid header name"),
        ("authorizationHeader: Authorization", "authorizationHeader: caf\u00e9", 11,
         "not a valid header name"),
        ("authorizationHeader: Authorization", 'authorizationHeader: "x\\r\\ny"', 11,
         "not a valid header name"),
        ("endpointImplementationType: ENDPOINT", "endpointImplementationType: INLINE", 13,
         "INLINE endpointImplementationType is not supported"),
        # Duplicates.
        ("name: Chat", "name: Chat\n  NAME: Chat", 5, "on line 4 and `NAME` on line 5"),
        ("name: Chat", "name: Chat\n  name: Chat", 5, "occurs twice, on lines 4 and 5"),
    ],
)  # fmt: skip
def test_one_fault_in_api_yaml(old: str, new: str, line: int, words: str) -> None:
    loaded = load(edited("api.yaml", f"  {old}" if "\n" not in old else old,
                         f"  {new}" if "\n" not in old else new))  # fmt: skip
    (problem,) = [each for each in loaded.problems if each.severity == "error"]
    assert (problem.file, problem.line) == (f"{FOLDER}/api.yaml", line)
    assert words in problem.what
    assert not loaded.incomplete


@pytest.mark.parametrize(
    "header",
    [
        "Host",
        "CONNECTION",
        "Upgrade",
        "keep-alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Proxy-Authorization",
        "Content-Length",
        "Sec-WebSocket-Key",
        "sec-websocket-protocol",
    ],
)
def test_headers_of_the_connection_cannot_carry_the_token(header: str) -> None:
    old = "authorizationHeader: Authorization"
    (problem,) = errors(edited("api.yaml", old, f"authorizationHeader: {header}"))
    assert problem.line == 11
    assert "belongs to the connection" in problem.what


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("''", "relative urls or empty values are not supported"),
        ("~", "relative urls or empty values are not supported"),
        ("'  '", "relative urls or empty values are not supported"),
        ("/chat", "relative urls or empty values are not supported"),
        ("//host/chat", "relative urls or empty values are not supported"),
        ("ftp://host", "the scheme `ftp` is not supported"),
        ("tcp+tls://host", "the scheme `tcp+tls` is not supported"),
        ("ws:/host", "`//` is missing"),
        ("'wss:'", "`//` is missing"),
        ("ws://", "the host name is empty"),
        ("ws:///chat", "the host name is empty"),
        ("ws://:80/chat", "the host name is empty"),
        ("ws://?x=1", "the host name is empty"),
        ("://host", "the host name is empty"),
        ("ws://ho$t", "invalid host name `ho$t`"),
        ("ws://-host", "invalid host name"),
        ("ws://host-", "invalid host name"),
        ("ws://a..b", "invalid host name"),
        ("ws://.", "invalid host name"),
        ("ws://caf\u00e9.example", "invalid host name"),
        ("ws://%31", "invalid host name"),
        ("ws://256.1.1.1", "invalid host name"),
        ("ws://1.2.3", "invalid host name"),
        ("ws://1234", "invalid host name"),
        ("ws://" + "a" * 64, "invalid host name"),
        ("ws://" + "a." * 127 + "a", "invalid host name"),
        ("ws://[::1", "invalid host name"),
        ("ws://[::1]80", "invalid host name"),
        ("ws://[1.2.3.4]", "invalid host name"),
        ("ws://[fe80::1%25eth0]", "invalid host name"),
        ("ws://[v1.x]", "invalid host name"),
        ("ws://::1/x", "has more than one port"),
        ("ws://h:1:2", "has more than one port"),
        ("ws://h:0", "the port `0`"),
        ("ws://h:65536", "the port `65536`"),
        ("ws://h:99999999999", "the port"),
        ("ws://h:-1", "the port `-1`"),
        ("ws://h:http", "the port `http`"),
        ("ws://h:\u0663", "the port"),
        ("ws://h:8080 80", "white space"),
        ("ws://h/a b", "white space"),
        ('"ws://h/a\\tb"', "a control character"),
        ('"ws://h\\r\\nHost: x"', "a control character"),
        ('"ws://h/\\x7f"', "a control character"),
        ("ws://h/caf\u00e9", "the character `\u00e9`"),
        ("'ws://h/{uri.var.x}'", "the character `{`"),
        ("ws://h/a\\b", "the character `\\`"),
        ("ws://h/?a=<b>", "the character `<`"),
        ("ws://h/" + "x" * 8190, "more than 8,192"),
    ],
)
def test_endpoints_that_cannot_be_dialled(url: str, words: str) -> None:
    for side, old, line in (
        ("production", "      url: ws://backend.example/chat", 17),
        ("sandbox", "      - url: ws://sandbox.example/chat", 19),
    ):
        new = old.partition("ws:")[0] + url
        (problem,) = errors(edited("api.yaml", old, new))
        assert (problem.file, problem.line) == (f"{FOLDER}/api.yaml", line)
        assert words in problem.what
        if "more than 8,192" not in words:
            assert problem.what.startswith(f"{side} endpoint: ")


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    url = "ws://user:s3cret@backend.example/chat"
    (problem,) = errors(edited("api.yaml", "ws://backend.example/chat", url))
    assert problem.line == 17
    assert "user and password" in problem.what
    assert "s3cret" not in str(problem)


def test_no_endpoint_anywhere() -> None:
    cut = API.partition("    production_endpoints")[0]
    no_server = DEFINITION.replace("    url: ws://backend.example\n", "    protocol: ws\n")
    files = {"Definitions/asyncapi.yaml": no_server.encode()}
    for api, line in (
        (cut, 15),
        (cut.replace("  endpointConfig:\n", ""), 3),
        (cut + "    production_endpoints: {}\n    sandbox_endpoints: []\n", 16),
    ):
        (problem,) = errors({"api.yaml": api.encode(), **files})
        assert (problem.file, problem.line) == (f"{FOLDER}/api.yaml", line)
        assert problem.what == (
            "API production and sandbox endpoints cannot be empty for Chat 1.0.0"
        )


def test_every_fault_of_every_file_is_told_at_once() -> None:
    files = {
        "api.yaml": b"data:\n  name: []\n  context: chat\n  type: WS\n  version:\n"
        b"  endpointConfig:\n    production_endpoints: {url: 'ftp://x'}\n",
        "Definitions/asyncapi.yaml": b"asyncapi: 2.0.0\nchannels:\n  chat: {publish: {}}\n"
        b"  /a: {publish: {x-scopes: 3}}\n  /b: {publish: {x-uri-mapping: '?'}}\n",
        "deployment_environments.yaml": b"data:\n  - {}\n",
    }
    found = [(each.file.rpartition("/")[2], each.line) for each in errors(files)]
    assert found == [
        ("asyncapi.yaml", 3),
        ("asyncapi.yaml", 4),
        ("asyncapi.yaml", 5),
        ("api.yaml", 2),
        ("api.yaml", 3),
        ("api.yaml", 5),
        ("api.yaml", 7),
        ("deployment_environments.yaml", 2),
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("type: api\n", 1, "`data` is missing"),
        ("type: api\ndata:\n", 2, "`data` is missing"),
        ("type: api\ndata: text\n", 2, "`data` must be a mapping, this is text"),
        ("type: api\ndata: [a]\n", 2, "`data` must be a mapping, this is a list"),
        (API.partition("\n    production")[0] + " [a]\n", 15, "must be a mapping, this is a list"),
    ],
)
def test_a_fault_of_a_whole_section_is_told_once(text: str, line: int, words: str) -> None:
    (problem,) = errors(replaced("api.yaml", text))
    assert (problem.file, problem.line) == (f"{FOLDER}/api.yaml", line)
    assert words in problem.what


def test_what_a_message_quotes_cannot_break_a_line_or_turn_it_around() -> None:
    (problem,) = errors(edited("api.yaml", "context: /chat", 'context: "a\\n\\u202e\\x1b[2J"'))
    assert "`a\\n\\u202e\\x1b[2J`" in problem.what
    (problem,) = errors(replaced("api.yaml", '"a\\u2028b": 1\n"a\\u2028b": 2\n'))
    assert "`a\\u2028b`" in problem.what


def test_an_api_of_another_type_is_told_once_whatever_its_definition_is() -> None:
    api = API.replace("type: WS", "type: HTTP").replace("context: /chat", "context: chat").encode()
    for definition in ({}, {"Definitions/swagger.yaml": b"openapi: 3.0.0\n"}):
        loaded = load({"api.yaml": api, **definition})
        (problem,) = loaded.problems
        assert "API type: HTTP" in problem.what
        assert not loaded.incomplete


# --- one edit in the definition --------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("asyncapi: 2.0.0", "asyncapi: 4.0.0", 1, "AsyncAPI version '4.0.0' is not supported"),
        ("asyncapi: 2.0.0", "openapi: 3.0.0", 1, "this is an OpenAPI definition"),
        ("asyncapi: 2.0.0\n", "", 1, "the key `asyncapi` is missing"),
        ("    url: ws://backend.example", "    url: ws://{host}", 4, "has no default"),
        ("    url: ws://backend.example", "    url: ws://h:0", 4, "the port `0`"),
        ("  production:\n", "  production: 3\n  x:\n", 3, "`production` must be a mapping"),
        ("  /rooms/{roomID}:", "  rooms/{roomID}:", 7, "does not start with `/`"),
        ("  /rooms/{roomID}:", "  /rooms/{roomID:", 7, "braces that are no parameter"),
        ("    publish:\n", "    publish: text\n    x:\n", 7, "`publish` must be a mapping"),
        ("/rooms?room={uri.var.roomID}", "/rooms/{uri.var.room}", 8, 'invalid path param "room"'),
        ("/rooms?room={uri.var.roomID}", "/rooms?room", 8, "is not written `name=value`"),
        ("/rooms?room={uri.var.roomID}", "'?room=1'", 8, "the mapping has no path"),
        ("[reader]", "reader", 9, "`x-scopes` must be a list or a mapping"),
        ("x-auth-type: Any", "x-auth-type: {}", 10, "`x-auth-type` must be text"),
        ("type: oauth2", "type: []", 14, "`type` must be text"),
    ],
)
def test_one_fault_in_the_definition(old: str, new: str, line: int, words: str) -> None:
    loaded = load(edited("Definitions/asyncapi.yaml", old, new))
    (problem,) = [each for each in loaded.problems if each.severity == "error"]
    assert problem.file == f"{FOLDER}/Definitions/asyncapi.yaml"
    assert problem.line == line
    assert words in problem.what
    assert not loaded.incomplete


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("data: {}\n", 1, "`data` must be a list, this is a mapping"),
        ("x: 1\ndata: [3]\n", 2, "`data[0]` must be a mapping, this is a number"),
        ("data:\n  - {}\n", 2, "`deploymentEnvironment` is missing"),
        ("data:\n  - deploymentVhost: h\n", 2, "`deploymentEnvironment` is missing"),
        ("data:\n  - {deploymentEnvironment: A}\n  - {deploymentEnvironment: []}\n", 3,
         "`deploymentEnvironment` must be text"),
        ("data:\n  - deploymentEnvironment: A\n    deploymentVhost: a:1\n", 3, "not a host name"),
        ("data:\n  - deploymentEnvironment: A\n    deploymentVhost: a b\n", 3, "not a host name"),
        ("data:\n  - deploymentEnvironment: A\n    deploymentVhost: https://a\n", 3, "host name"),
        ("data: [\n", 1, "YAML syntax"),
    ],
)  # fmt: skip
def test_one_fault_in_the_deployments(text: str, line: int, words: str) -> None:
    (problem,) = errors(replaced("deployment_environments.yaml", text))
    assert problem.file == f"{FOLDER}/deployment_environments.yaml"
    assert problem.line == line
    assert words in problem.what


# --- files missing, duplicated, truncated ---------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ["could not find api.yaml or api.json", "there is no AsyncAPI definition"]),
        (["api.yaml"], ["there is no AsyncAPI definition"]),
        (["Definitions/asyncapi.yaml"], ["could not find api.yaml or api.json"]),
        (["deployment_environments.yaml"],
         ["could not find api.yaml or api.json", "there is no AsyncAPI definition"]),
    ],
)  # fmt: skip
def test_missing_files(names: list[str], words: list[str]) -> None:
    loaded = load({name: FILES[name] for name in names})
    assert loaded.incomplete
    assert [problem.file for problem in loaded.problems] == [FOLDER] * len(words)
    for problem, expected in zip(loaded.problems, words, strict=True):
        assert expected in problem.what


def test_an_openapi_definition_alone_is_not_supported() -> None:
    files = {"api.yaml": FILES["api.yaml"], "Definitions/swagger.json": b'{"openapi": "3.0.0"}'}
    (problem,) = errors(files)
    assert problem.file == f"{FOLDER}/Definitions/swagger.json"
    assert problem.line == 1
    assert "Definitions/asyncapi.yaml" in problem.hint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("api.json", "api.yaml"),
        ("api.yaml", "api.yml"),
        ("Definitions/asyncapi.json", "Definitions/asyncapi.yaml"),
        ("deployment_environments.json", "deployment_environments.yaml"),
    ],
)
def test_two_files_of_one_kind_are_both_named(one: str, other: str) -> None:
    data = FILES.get(other) or FILES[one]
    (problem,) = errors({**FILES, one: data, other: data})
    assert problem.file == FOLDER
    assert f"`{one}` and `{other}`" in problem.what


def test_two_projects_in_one_folder() -> None:
    files = {f"{top}/{name}": data for top in ("a", "b") for name, data in FILES.items()}
    assert [problem.file for problem in errors(files)] == [FOLDER] * 3


CONTENTS = [
    (b"", 0, "empty", True),
    (b"\n\n", 0, "empty", True),
    (b"# nothing yet\n", 0, "empty", True),
    (b"type: api\ndat", 2, "`:` was expected", True),
    (b'{"type": "api", "dat', 1, "JSON syntax", True),
    (b'{"type": "api",}', 1, "JSON syntax", True),
    (b"a: 1\nb: 'open\n", 2, "never closed", True),
    (b"a: \xe2\x82", 1, "not UTF-8", True),
    (b"a: 1\n\0\0\0", 2, "U+0000", True),
    (b"a: 1\n\tb: 2\n", 2, "YAML syntax", True),
    (b"a:\n\t- b\n", 2, "a tab", True),
    (b"text", 1, "without keys", True),
    (b"- a\n", 1, "the file is a list", False),
    (b"a: 1\n---\nb: 1\n", 2, "second document", False),
    (b"a: 1\na: 2\n", 2, "lines 1 and 2", False),
    (b"a: !custom x\n", 1, "tag `!custom`", False),
    (b"a: !!python/object/apply:os.system [x]\n", 1, "tag `!!python", False),
    (b"? {a: b}\n: c\n", 1, "cannot be a key", False),
    (b"a: &a [*a]\n", 1, "inside its own anchor", False),
    (b"a: *b\n", 1, "has no anchor", False),
    (b"a: " + b"[" * 100_000, 1, "64 levels", False),
    (b"a: " + b"{a: " * 100_000, 1, "64 levels", False),
    (b'{"a":' * 100_000, 1, "64 levels", False),
    (b'{"a": NaN}', 1, "`NaN`", False),
    (b'{"a": 1, "a": 2}', 1, "occurs twice", False),
    (b'{"a": "\\udfff"}', 1, "surrogate", False),
    ("a: 1".encode("utf-16"), 1, "UTF-16", False),
    ("a: 1".encode("utf-16-le"), 1, "U+0000", True),
    (b"\x7fELF\x02\x01", 1, "U+007F", False),
    (b"PK\x03\x04\x14\x00", 1, "U+0003", True),
    (b"\x89PNG\r\n", 1, "not UTF-8", False),
    (b"a: 1 # \x1b[31m\n", 1, "U+001B", False),
    (b"a: " + b"x" * MAX_SIZE, 0, "more than 2,097,152", False),
    (b"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [" + b"*a," * 1000 + b"]\nc: [" + b"*b," * 1000 + b"]\n",
     3, "100,000 values", False),
]  # fmt: skip


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize(
    ("data", "line", "words", "incomplete"), CONTENTS, ids=[words for _, _, words, _ in CONTENTS]
)
def test_contents_that_cannot_be_read(
    name: str, data: bytes, line: int, words: str, incomplete: bool
) -> None:
    loaded = load(replaced(name, data))
    (problem,) = loaded.problems
    assert (problem.file, problem.line) == (f"{FOLDER}/{name}", line)
    assert words in problem.what
    assert loaded.incomplete is incomplete


def test_a_byte_order_mark_and_carriage_returns_are_no_fault() -> None:
    files = {name: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n") for name, data in FILES.items()}
    assert load(files) == load(FILES)


@pytest.mark.parametrize("name", list(FILES))
def test_lines_are_right_with_carriage_returns(name: str) -> None:
    data = FILES[name].replace(b"\n", b"\r\n") + b"}"
    (problem,) = errors(replaced(name, data))
    assert problem.line == data.count(b"\n") + 1


def test_a_project_cut_anywhere_never_loads_as_another_one() -> None:
    for name in ("api.yaml", "Definitions/asyncapi.yaml"):
        for end in range(len(FILES[name])):
            found = load(replaced(name, FILES[name][:end]))
            if found.project is not None:
                assert found.project.base_path == "/chat/1.0.0"
                assert [topic.name for topic in found.project.topics] == ["/rooms/{roomID}"]


# --- random content -------------------------------------------------------------------------

QUICKLY = datetime.timedelta(seconds=5)


@given(st.binary(max_size=400), st.binary(max_size=400), st.binary(max_size=100))
@example(b"{", b"[", b"%")
@example(b"a: &a {<<: *a}", b"*a : b", b"? &a a : *a")
@example(b'{"' + b"\\" * 99, b'{"\\u', b"a: |99\n b")
@settings(deadline=QUICKLY)
def test_any_bytes_give_problems(api: bytes, definition: bytes, deployments: bytes) -> None:
    names = ("api.yaml", "Definitions/asyncapi.yaml", "deployment_environments.yaml")
    loaded = load(dict(zip(names, (api, definition, deployments), strict=True)))
    assert loaded.project is None


PIECES = st.sampled_from(
    [b"- ", b"? ", b": ", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"<<: ", b"!!", b"'", b'"', b"\n",
     b"  ", b"\t", b"// ", b"#", b"null", b"true", b"/", b"{x}", b"?", b"%", b"---\n", b"\xff",
     b"\0", b"\xc3\xa9", b"*", b"|", b">", b"@", b"9" * 30, b"\\u", b"x-scopes: ", b"publish:\n"]
)  # fmt: skip


@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 40), PIECES | st.binary(max_size=3))),
)
@settings(deadline=QUICKLY, max_examples=examples(400))
def test_any_edits_of_a_valid_project_are_borne(
    name: str, edits: list[tuple[int, int, bytes]]
) -> None:
    data = FILES[name]
    for start, length, piece in edits:
        data = data[:start] + piece + data[start + length :]
    load(replaced(name, data))


@given(st.data())
@settings(deadline=QUICKLY, max_examples=examples(300))
def test_any_value_in_the_place_of_any_value_is_borne(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FILES)))
    lines = FILES[name].decode().split("\n")
    index = data.draw(st.sampled_from([at for at, line in enumerate(lines) if ": " in line]))
    value = data.draw(
        st.sampled_from(["", "~", "3", "-1", "1.5", "true", "[]", "{}", "[[]]", "{a: {b: c}}"])
        | st.text(max_size=30).map(json.dumps)
        | st.text(st.characters(codec="utf-8"), max_size=30)
    )
    lines[index] = f"{lines[index].partition(': ')[0]}: {value}"
    load(replaced(name, "\n".join(lines)))

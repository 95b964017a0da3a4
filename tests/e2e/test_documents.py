"""AsyncAPI documents of others, through `init`: backends are asked for what the documents say.

Each document is the smallest of its kind. They are made into projects by the command itself and
served together; a backend records what it was asked for.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, NamedTuple

import pytest

from support.backends import start_echo
from support.gateway import start_gateway
from support.secrets import secret
from trio_gw.cli import init
from trio_gw.config.project import load
from trio_gw.testing import serve_backend, serve_gateway

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from trio_gw.config.api import ApiProject


class Made(NamedTuple):
    """What a run of the command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def make(base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.chdir(base)
    return Make(base, capsys)


class Make:
    """Runs `trio-gw init --from` on a document."""

    def __init__(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.base = base
        self._capsys = capsys

    def __call__(self, text: str, *arguments: str, name: str = "Doc") -> Made:
        """Write the document beside `apis/` and make it a project of this name."""
        suffix = "json" if text.startswith("{") else "yaml"
        (self.base / f"{name}.{suffix}").write_text(text)
        parser = argparse.ArgumentParser()
        init.arguments(parser)
        given = ("--from", f"{name}.{suffix}", "--name", name, "--context", f"/{name}", *arguments)
        code = init.main(parser.parse_args(given))
        said = self._capsys.readouterr()
        return Made(code, said.out, said.err)

    def project(self, name: str = "Doc") -> ApiProject:
        """Read what was made, which must be without a fault."""
        (folder,) = (self.base / "apis").glob(f"{name}-*")
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        loaded = load(files, name)
        assert loaded.problems == ()
        assert loaded.project is not None
        return loaded.project


def two(servers: str, channels: str) -> str:
    head = "asyncapi: 2.6.0\ninfo: {title: T, version: 1.0.0}\n"
    return head + (f"servers: {servers}\n" if servers else "") + f"channels: {channels}\n"


def three(servers: str, channels: str, *operated: str) -> str:
    operations = "".join(
        f"  {each}: {{action: send, channel: {{$ref: '#/channels/{each}'}}}}\n" for each in operated
    )
    head = f"asyncapi: 3.0.0\ninfo: {{title: T, version: 1.0.0}}\nservers: {servers}\n"
    return f"{head}channels: {channels}\n" + (f"operations:\n{operations}" if operations else "")


LIVE = "{live: {url: 'ws://127.0.0.1:PORT/base', protocol: ws}}"
LIVE_3 = "{live: {host: '127.0.0.1:PORT', pathname: /base, protocol: ws}}"
BROKER = "broker: {url: 'mqtt://b.example', protocol: mqtt}"
SUBJECTS = "{ticker: {subscribe: {}}, session.update: {publish: {}}, 'room:{id}': {subscribe: {}}}"

# The document, arguments, what clients ask for below the base path, what the backend is asked for.
CASES = {
    "path": (two(LIVE, "{'/v1/feed/{s}': {subscribe: {}}}"), (),
        "/v1/feed/a?d=5", "/base/v1/feed/a?d=5"),
    "at": (two(LIVE, "{'/ws/{s}@trade': {publish: {}}}"), (), "/ws/x@trade", "/base/ws/x@trade"),
    "bang": (two(LIVE, "{'/a!b/{c}:join': {publish: {}}}"), (), "/a!b/7:join", "/base/a!b/7:join"),
    "root": (two(LIVE, "{/: {publish: {}}}"), (), "/", "/base"),
    "below": (two(LIVE, "{/*: {publish: {}}}"), (), "/a/b%20c?x", "/base/a/b%20c?x"),
    "escaped": (two(LIVE, "{/café: {publish: {}}}"), (), "/caf%C3%A9", "/base/caf%C3%A9"),
    "mapped": (two(LIVE, "{/m: {publish: {x-uri-mapping: /n}}}"), (), "/m", "/base/n"),
    "json": (json.dumps({"asyncapi": "2.6.0", "info": {"title": "T", "version": "1.0.0"},
        "servers": {"live": {"url": "ws://127.0.0.1:PORT/base", "protocol": "ws"}},
        "channels": {"/j": {"publish": {}}}}), (), "/j", "/base/j"),
    "ended": (two(LIVE, "{/e: {publish: {}}}") + "---\n", (), "/e", "/base/e"),
    "subjects": (two(LIVE, SUBJECTS), (), "", "/base"),
    "relative": (two("", "{user/signedup: {publish: {}}}"), ("--backend", "ws://127.0.0.1:PORT"),
        "/user/signedup", "/user/signedup"),
    "replaced": (two("{p: {url: 'h:9', protocol: kafka, security: [{k: []}]}}",
        "{/r: {publish: {}}}"),
        ("--backend", "ws://127.0.0.1:PORT/x"), "/r", "/x/r"),
    "url": (two("", "{'ws://127.0.0.1:PORT/ws/x': {publish: {}}}"), (), "/ws/x", "/ws/x"),
    "only": (two(f"{{{BROKER}, {LIVE[1:]}",
        "{/a: {servers: [live], publish: {}}, s/t: {servers: [broker], publish: {}}}"), (),
        "/a", "/base/a"),
    "named": (two("{a: {url: 'ws://a.example'},"
        " b: {url: 'ws://127.0.0.1:PORT/{v}', variables: {v: {default: q}}}}",
        "{/a: {publish: {}}}"), ("--server", "b"), "/a", "/q/a"),
    "shared": (three(LIVE_3, "{trades: {address: /stream}, books: {address: /stream}}",
        "trades", "books"), (), "/stream", "/base/stream"),
    "nowhere": (three(LIVE_3, "{trades: {address: null}, books: {}}", "trades"), (), "", "/base"),
    "unused": (three(LIVE_3, "{trades: {address: /t}}"), (), "/t", "/base/t"),
    "hosted": (three("{live: {host: 'ws://127.0.0.1:PORT/h', pathname: /p, protocol: ws}}",
        "{t: {address: /t}}", "t"), (), "/t", "/h/p/t"),
}  # fmt: skip


async def test_backends_are_asked_for_what_documents_say(base: Path, make: Make) -> None:
    async with serve_backend() as backend:
        for name, (text, arguments, _, _) in CASES.items():
            port = str(backend.port)
            given = [each.replace("PORT", port) for each in arguments]
            made = make(text.replace("PORT", port), *given, name=name)
            assert made.code == 0, made.err
        asked = {}
        async with serve_gateway(projects=base / "apis") as gateway:
            token = secret(gateway.token())
            for name, (_, _, path, _) in CASES.items():
                async with gateway.connect(f"{gateway.base_url}/{name}/1.0.0{path}", token=token):
                    asked[name] = (await backend.accept()).path
        assert asked == {name: expected for name, (_, _, _, expected) in CASES.items()}
        assert len(backend.connections) == len(CASES)


async def test_new_topics_reach_the_backend_by_their_own_path(base: Path, make: Make) -> None:
    """`init --topic`, with characters that no mapping may hold, and for all there is."""
    parser = argparse.ArgumentParser()
    init.arguments(parser)
    async with serve_backend() as backend:
        for name, topics in {
            "A": ["--topic", "/ws/{s}@trade", "--topic", "/r/{id}:join"],
            "B": [],
        }.items():
            given = ["--name", name, "--backend", f"{backend.url}/v2", *topics]
            assert init.main(parser.parse_args(given)) == 0
        async with serve_gateway(projects=base / "apis") as gateway:
            token = secret(gateway.token())
            for path in ("/a/1.0.0/r/7:join", "/b/1.0.0/any/where?q=1", "/b/1.0.0"):
                assert await gateway.status(gateway.base_url + path, token=token) == 101
            assert await gateway.status("/ws/{s}@trade", s="x", token=token) == 101
        expected = ["/v2/r/7:join", "/v2/any/where?q=1", "/v2", "/v2/ws/x@trade"]
        assert [connection.path for connection in backend.connections] == expected


async def test_a_path_that_is_passed_on_is_no_way_around_another_topic(
    nursery: trio.Nursery, base: Path, make: Make
) -> None:
    """What is let in as `/r/{id}` must not be read as `/r/admin`, which asks for a token."""
    backend = await start_echo(nursery)
    channels = "{/r/admin: {publish: {}}, '/r/{id}': {x-auth-type: None, publish: {}}}"
    assert make(two(LIVE, channels).replace("PORT", str(backend.port))).code == 0
    gateway = await start_gateway(nursery, base)
    for path in ("/r/%61dmin", "/r/admin;x"):
        answer = await gateway.ask(gateway.handshake(f"/Doc/1.0.0{path}"))
        assert answer.status == 400
    assert await gateway.status("/Doc/1.0.0/r/../r/admin") == 400
    assert backend.requests == []
    async with gateway.connect("/Doc/1.0.0/r/lobby"):
        assert backend.requests[-1].path == "/base/r/lobby"


# -- what is said ------------------------------------------------------------------------------


def test_a_server_with_tls_stays_one(make: Make) -> None:
    text = two("{production: {url: 'feed.example/v2', protocol: wss}}", "{/a: {publish: {}}}")
    made = make(text)
    assert (made.code, made.err) == (0, "")
    project = make.project()
    assert project.production is not None
    assert [str(each) for each in project.production.endpoints] == ["wss://feed.example:443/v2"]


def test_subjects_are_one_warning(make: Make) -> None:
    many = ", ".join(f"subject.{number}: {{publish: {{}}}}" for number in range(50))
    made = make(two("{p: {url: 'ws://h/v'}}", f"{{{many}}}"))
    assert (made.code, made.err.count("\n")) == (0, 1)
    assert "Doc.yaml:4: warning: `subject.0`, " in made.err
    assert "and 45 more are no paths: subjects of one connection" in made.err
    assert [topic.name for topic in make.project().topics] == ["/"]


def test_names_that_got_a_slash_are_told(make: Make) -> None:
    made = make(
        two("{p: {url: 'ws://h/v'}}", "{user/signedup: {publish: {}}, news: {publish: {}}}")
    )
    assert (made.code, made.err) == (0, "")
    assert "`user/signedup` is served as /user/signedup\n" in made.out
    assert [topic.name for topic in make.project().topics] == ["/user/signedup", "/news"]


def test_channels_of_other_servers_are_told(make: Make) -> None:
    made = make(CASES["only"][0].replace("PORT", "1"))
    assert (made.code, made.err) == (0, "")
    assert "left out, channels of other servers: `s/t`" in made.out


@pytest.mark.parametrize("protocol", ["kafka", "secure-mqtt", "amqp", "googlepubsub", "jms"])
def test_other_protocols_are_refused_in_one_line(make: Make, protocol: str) -> None:
    servers = f"{{production: {{url: 'b.example:9092', protocol: {protocol}}}}}"
    made = make(two(servers, "{a.b: {publish: {}}, c.d: {publish: {}}}"))
    assert (made.code, made.out, made.err.count("\n")) == (1, "", 1)
    assert made.err.startswith(f"Doc.yaml:3: no WebSocket server: `production` speaks {protocol}")
    assert "--backend wss://" in made.err


def test_without_servers_only_the_backend_is_asked_for(make: Make) -> None:
    made = make(two("", "{a.b: {publish: {}}, c.d: {publish: {}}}"))
    assert (made.code, made.out, made.err.count("\n")) == (2, "", 1)
    assert "add --backend" in made.err


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("{url: 'https://b.example', protocol: https}", "speaks https, not WebSocket"),
        ("{url: 'wss://b.example', protocol: socket.io}", "its frames are relayed"),
    ],
)
def test_what_is_no_plain_websocket_is_a_warning(make: Make, server: str, said: str) -> None:
    made = make(two(f"{{production: {server}}}", "{/a: {publish: {}}}"))
    assert made.code == 0
    assert "Doc.yaml:3: warning: " in made.err
    assert said in made.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "mainnet, testnet; name one with --server, such as --server mainnet"),
        (("--server", "dev"), "there is no server `dev`; the document has mainnet, testnet"),
    ],
)
def test_which_server_is_asked(make: Make, arguments: tuple[str, ...], said: str) -> None:
    text = two("{mainnet: {url: 'ws://m'}, testnet: {url: 'ws://t'}}", "{/a: {publish: {}}}")
    made = make(text, *arguments)
    assert (made.code, made.out) == (2, "")
    assert said in made.err


def test_security_of_servers_stays_beside_another_backend(make: Make) -> None:
    text = two(
        "{a: {url: 'ws://a', security: [{o: [chat]}]},"
        " b: {url: 'ws://b', security: [{o: [chat]}]}}",
        "{/a: {publish: {}}}\ncomponents: {securitySchemes: {o: {type: oauth2}}}",
    )
    made = make(text, "--backend", "ws://h:1")
    assert (made.code, made.err) == (0, "")
    project = make.project()
    assert project.topics[0].scopes == ("chat",)
    assert project.production is not None
    assert str(project.production.endpoints[0]) == "ws://h:1"


def test_security_of_servers_that_differs_has_to_be_chosen(make: Make) -> None:
    text = two(
        "{a: {url: 'ws://a', security: [{o: [chat]}]}, b: {url: 'ws://b', security: [{o: [x]}]}}",
        "{/a: {publish: {}}}\ncomponents: {securitySchemes: {o: {type: oauth2}}}",
    )
    made = make(text, "--backend", "ws://h:1")
    assert (made.code, "name with --server whose holds" in made.err) == (2, True)
    assert make(text, "--backend", "ws://h:1", "--server", "b").code == 0
    assert make.project().topics[0].scopes == ("x",)


def test_variables_without_a_default_have_two_remedies(make: Make) -> None:
    servers = "{p: {url: 'ws://{region}.example', variables: {region: {enum: [eu]}}}}"
    made = make(two(servers, "{/a: {publish: {}}}"))
    assert made.code == 1
    assert "give it a `default`" in made.err
    assert "--backend wss://" in made.err


def test_a_version_that_is_no_path_names_the_option(make: Make) -> None:
    text = two("{p: {url: 'ws://h'}}", "{/a: {publish: {}}}").replace("1.0.0", "'v1 (beta)'")
    made = make(text)
    assert (made.code, "or name another with --version" in made.err) == (2, True)
    assert make(text, "--version", "1").code == 0


def test_what_is_not_enforced_is_told(make: Make) -> None:
    channels = "{/a: {bindings: {ws: {query: {}}}, publish: {message: {payload: {type: object}}}}}"
    made = make(two("{p: {url: 'ws://h'}}", channels))
    assert made.code == 0
    assert "not enforced: payload schemas (1), ws.query of /a\n" in made.out


# -- files beside the document -----------------------------------------------------------------


def test_files_beside_the_document_are_taken_in(make: Make) -> None:
    (make.base / "sub").mkdir()
    (make.base / "sub/c.yaml").write_text(
        "a: {publish: {x-scopes: [s], message: {$ref: '#/m'}}}\n"
        "m: {payload: {$ref: '../Doc.yaml#/info'}, next: {$ref: 'd.json'}}\n"
    )
    (make.base / "sub/d.json").write_text('{"back": {"$ref": "c.yaml#/m"}}')
    (make.base / "s.yaml").write_text("servers: {live: {url: 'ws://h:1/p', protocol: ws}}\n")
    schemes = "components: {securitySchemes: {$ref: 'o.yaml'}}\n"
    (make.base / "o.yaml").write_text("o: {type: oauth2}\n")
    made = make(two("{$ref: './s.yaml#/servers'}", "{/a: {$ref: './sub/c.yaml#/a'}}") + schemes)
    assert (made.code, made.err) == (0, "")
    assert "included: `s.yaml`, `sub/c.yaml`, `o.yaml`, `sub/d.json`\n" in made.out
    project = make.project()
    assert [(topic.name, topic.scopes) for topic in project.topics] == [("/a", ("s",))]
    assert project.production is not None
    assert str(project.production.endpoints[0]) == "ws://h:1/p"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("../secret.yaml#/a", "leads out of the document's folder"),
        ("sub/../../secret.yaml#/a", "leads out of the document's folder"),
        ("http://127.0.0.1:1/x.yaml#/a", "leads out of the document's folder"),
        ("/etc/hostname#/a", "leads out of the document's folder"),
        ("link.yaml#/a", "it is a link that leads out of the document's folder"),
        ("gone.yaml#/a", "No such file or directory"),
        ("list.yaml#/a", "the file is a list"),
    ],
)
def test_no_other_file_is_read(make: Make, reference: str, said: str) -> None:
    (make.base.parent / "secret.yaml").write_text("a: {publish: {}}\n")
    (make.base / "link.yaml").symlink_to(make.base.parent / "secret.yaml")
    (make.base / "list.yaml").write_text("- a\n")
    servers = "{p: {url: 'ws://h'}}"
    made = make(two(servers, f"{{/a: {{$ref: '{reference}'}}, /b: {{publish: {{}}}}}}"))
    assert said in made.err
    assert made.code == 0  # as the reference does, what is not there is left out
    assert "1 topic" in made.out


def test_a_document_of_many_schemas_is_no_matter(make: Make) -> None:
    """6,000 channels, each with a schema of 20 values: more than the bound on values in all."""
    schema = ", ".join(f"p{number}: {{type: string}}" for number in range(6))
    message = f"{{message: {{payload: {{type: object, properties: {{{schema}}}}}}}}}"
    channels = ", ".join(f"/c{number}: {{publish: {message}}}" for number in range(6000))
    made = make(two("{p: {url: 'ws://h'}}", f"{{{channels}}}"))
    assert (made.code, made.err) == (0, "")
    assert len(make.project().topics) == 6000
    assert make.project().unenforced == ("payload schemas (6000)",)

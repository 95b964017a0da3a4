"""Ask real servers how they read the paths that the gateway accepts without a token.

Usage: readers.py BUILD [--spellings N] [--seed N], called by `run`, which makes BUILD.

A grammar writes spellings of guarded topics. What the gateway's own reader, route table and check
let in on an open topic is sent to every server as the backend would get it, and a part of it also
through nginx. A server that takes it for a guarded topic is a bypass; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic, UriMapping
from trio_gw.config.settings import Environment
from trio_gw.errors import Refusal
from trio_gw.proxy import path_confusion
from trio_gw.routing.compiler import compile_table
from trio_gw.wire.http import RequestReader

if TYPE_CHECKING:
    from trio_gw.routing.table import RouteTable

HERE = Path(__file__).parent
FIRST = 17000
GUARDED = {"admin", "keys", "ws-admin"}
NODE = (
    "node URL",
    "node URL, decoded",
    "node decoded, URL",
    "node url.parse",
    "Express 4",
    "Express 5",
)
JAVA = ("Tomcat", "Tomcat lax", "Tomcat Latin-1", "Jetty", "Jetty legacy", "Jetty unsafe")
GO = ("Go ServeMux", "Go URL.Path", "Go path.Clean")
PYTHON = {
    "aiohttp": "aiohttp",
    "Starlette, uvicorn h11": "uvicorn_h11",
    "Starlette, uvicorn httptools": "uvicorn_httptools",
    "Starlette, Hypercorn": "hypercorn",
}
PORTS = {
    **{name: FIRST + index for index, name in enumerate(NODE)},
    **{name: FIRST + 10 + index for index, name in enumerate(JAVA)},
    **{name: FIRST + 20 + index for index, name in enumerate(GO)},
    **{name: FIRST + 30 + index for index, name in enumerate(PYTHON)},
}
BEHIND = (
    *("node URL, decoded", "Express 5", "Tomcat", "Tomcat lax", "Jetty unsafe", "Go ServeMux"),
    *("Go URL.Path", "aiohttp", "Starlette, uvicorn httptools"),
)
MODES = {
    "": ("", ""),
    " with a URI": ("/", ""),
    " with a URI, unmerged": ("/", "merge_slashes off;"),
}


# --- the gateway ----------------------------------------------------------------------------


def table(*, alike: bool = False) -> RouteTable:
    """Compile the topics; with `alike` all of them are open."""
    room = "{uri.var.id}"
    topics = (
        Topic("/r/admin", UriMapping("/r/admin"), secured=not alike),
        Topic("/r/{id}", UriMapping(f"/r/{room}"), secured=False),
        Topic("/r/{id}/keys", UriMapping(f"/r/{room}/keys"), secured=not alike),
        Topic("/r/{id}/{part}", UriMapping(f"/r/{room}/{{uri.var.part}}"), secured=False),
        Topic("/boss", UriMapping("/ws", (("room", "admin"),)), secured=not alike),
        Topic("/q/{id}", UriMapping("/ws", (("room", room),)), secured=False),
    )
    project = ApiProject(
        *("M", "M", "M", "1.0.0", "/m", topics), production=Cluster((Endpoint("ws", "b", 80),))
    )
    return compile_table((project,), (Environment("Default", "localhost"),))[0]


def admitted(made: RouteTable, path: str) -> str | None:
    """Return the backend's request; None if the client is refused or needs a token."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try:
        head = RequestReader().feed(request.encode("ascii"))
        assert head is not None
        match = made.match(head.host, head.path)
        if match is None or match.route.secured:
            return None
        path_confusion.check(head.path, head.query, match)
        endpoint = match.route.api.production
        assert endpoint is not None
        return match.route.backend_target(match, endpoint.endpoints[0], head.query)
    except Refusal:
        return None


# --- spellings ------------------------------------------------------------------------------

NOISE = (
    *(
        ";",
        ";x",
        ";x=1",
        ";x%2fy",
        ";x%2Fy/..",
        "%3B",
        "%3Bx",
        "%3Bx%2Fy",
        "%253Bx",
        "/",
        "%2F",
        "%2f",
    ),
    *("%252F", "%5C", "%5c", "%255C", "\\", "%C0%AF", "%E0%80%AF", "%EF%BC%8F", "%EF%BC%BC", "%00"),
    *(
        "%2500",
        "%C0%80",
        "%09",
        "%0A",
        "%0D",
        "%2509",
        "%250a",
        "%20",
        "%2520",
        "+",
        "%2B",
        ".",
        "%2E",
    ),
    *("%23", "%23x", "%2523x", "%3F", "%3Fx", "%253Fx", "?x", "%C2%AD", "%E2%80%8B", "%EF%BB%BF"),
    *(
        "%FF",
        "%80",
        "%C3",
        "%EF%BC%9Bx",
        "%EF%BC%9Fx",
        "%A0",
        "%E3%80%80",
        "%7F",
        "%1B",
        "~",
        "%26x=1",
    ),
    *(
        "%26room=admin",
        "%2526room=admin",
        "%3Broom=admin",
        "/.",
        "/%2e",
        "/..",
        "%2F..%2F",
        "%2F.%2F",
    ),
    *(
        "%c0%ae",
        "/x%2f%2e%2e",
        ":",
        "@",
        "%40",
        "!",
        "*",
        "'",
        '"',
        "<",
        "{",
        "|",
        "^",
        "`",
        "%u0061",
    ),
)


def escaped(data: bytes, chance: random.Random) -> str:
    """Percent-encode every byte, in either case of the digits."""
    form = chance.choice(("%%%02x", "%%%02X"))
    return "".join(form % byte for byte in data)


def spelled(letter: str, chance: random.Random) -> str:
    """Write a letter in one of its forms."""
    code = ord(letter)
    kind = chance.randrange(12)
    if kind < 3:
        return escaped(letter.encode(), chance)
    if kind < 5:
        return letter.swapcase()
    if kind == 5:
        return escaped(letter.swapcase().encode(), chance)
    if kind == 6:
        return "%25" + escaped(letter.encode(), chance)[1:]
    if kind == 7:
        return escaped(escaped(letter.encode(), chance).encode(), chance)
    if kind == 8:
        return escaped(bytes((0xC0 | code >> 6, 0x80 | code & 0x3F)), chance)
    if kind == 9:
        return escaped(bytes((0xE0, 0x80 | code >> 6, 0x80 | code & 0x3F)), chance)
    if kind == 10:
        return escaped(chr(code + 0xFEE0).encode() if code > 32 else b" ", chance)
    return letter + chance.choice(NOISE)


def spelling(chance: random.Random) -> str:
    """Write a path that some server may read as a guarded topic."""
    words = chance.choice(
        (["admin"], ["admin"], ["x", "keys"], ["x", "keys"], ["x", "y", "keys"], ["admin", ""])
    )
    separators = (
        "/",
        "%2F",
        "%2f",
        "%5C",
        "%5c",
        "\\",
        "//",
        "%252F",
        "%255C",
        "%C0%AF",
        "/%2F",
        ";/",
    )
    text = words[0]
    for word in words[1:]:
        text += chance.choice(separators if chance.random() < 0.7 else NOISE) + word
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        at = chance.randrange(len(text))
        if text[at].isalnum() and text[max(0, at - 2) : at].count("%") == 0:
            text = text[:at] + spelled(text[at], chance) + text[at + 1 :]
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
        at = chance.choice((0, len(text), len(text), chance.randrange(len(text) + 1)))
        text = text[:at] + chance.choice(NOISE) + text[at:]
    return f"/m/1.0.0/{chance.choice('rrrq')}/{text}"


# --- servers --------------------------------------------------------------------------------


def nginx_configuration(build: Path) -> tuple[str, dict[str, int]]:
    """Write a configuration: nginx as a server, and in front of others."""
    say = "add_header X-Read {} always; return 200;"
    guarded = (
        f"location = /r/admin {{ {say.format('admin')} }}"
        f" location = /r/admin/ {{ {say.format('admin')} }}"
        f" location {{}} ^/r/[^/]+/keys/?$ {{ {say.format('keys')} }}"
        f" location / {{ {say.format('none')} }}"
    )
    ports = {"nginx": FIRST + 50, "nginx ~*": FIRST + 51, "nginx, unmerged": FIRST + 52}
    insensitive = guarded.replace("location = /r/admin {", "location ~* ^/r/admin$ {")
    servers = [
        (ports["nginx"], guarded.replace("{}", "~", 1)),
        (ports["nginx ~*"], insensitive.replace("{}", "~*", 1)),
        (ports["nginx, unmerged"], "merge_slashes off; " + guarded.replace("{}", "~", 1)),
    ]
    for mode, (uri, option) in MODES.items():
        for name in BEHIND:
            port = FIRST + 60 + len(servers)
            ports[f"nginx{mode}, {name}"] = port
            proxied = f"proxy_pass http://127.0.0.1:{PORTS[name]}{uri}; proxy_http_version 1.1;"
            servers.append(
                (port, f'{option} location / {{ {proxied} proxy_set_header Connection ""; }}')
            )
    listed = "\n".join(
        f"server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000; {body} }}"
        for port, body in servers
    )
    text = f"""daemon off; pid {build}/nginx.pid; error_log /dev/null crit; worker_processes 1;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {build}/body; proxy_temp_path {build}/proxy;
fastcgi_temp_path {build}/f; uwsgi_temp_path {build}/u; scgi_temp_path {build}/s;
large_client_header_buffers 4 32k;
{listed}
}}"""
    return text, ports


def start(stack: ExitStack, *command: str, cwd: Path | None = None) -> None:
    """Start a server, to be ended with the stack."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=cwd,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)


def wait_for(port: int, seconds: float = 90) -> None:
    """Wait until a server listens."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


# --- asking ---------------------------------------------------------------------------------

ANSWER = re.compile(rb"HTTP/1\.[01] ([0-9]{3})([^\r\n]*\r\n.*?)\r\n\r\n", re.DOTALL)
READ = re.compile(rb"\r\nx-read: ([^\r\n]*)", re.IGNORECASE)
BATCH = 64


def ask(port: int, targets: list[str]) -> list[str]:
    """Send each request to a server; returns the topic it read, else the status, else `closed`."""
    found: list[str] = []
    batch, connection = BATCH, None
    while len(found) < len(targets):
        wanted = targets[len(found) : len(found) + batch]
        if connection is None:
            connection = socket.create_connection(("127.0.0.1", port), 60)
        requests = "".join(f"HEAD {target} HTTP/1.1\r\nHost: backend\r\n\r\n" for target in wanted)
        answers, open_ = _answers(connection, requests.encode("ascii"), len(wanted))
        found += answers or (["closed"] if batch == 1 else [])
        batch = (
            BATCH if open_ or (answers and batch == 1) else 1
        )  # what was lost is asked for alone
        if not open_:
            connection.close()
            connection = None
    if connection is not None:
        connection.close()
    return found


def _answers(connection: socket.socket, requests: bytes, count: int) -> tuple[list[str], bool]:
    found: list[str] = []
    data = b""
    try:
        connection.sendall(requests)
        while len(found) < count:
            chunk = connection.recv(65536)
            if not chunk:
                return found, False
            data += chunk
            end = 0
            for answer in ANSWER.finditer(data):
                read = READ.search(answer[2])
                found.append(read[1].decode() if read else answer[1].decode())
                end = answer.end()
            data = data[end:]
    except OSError:
        return found, False
    return found[:count], len(found) == count


# --- legitimate paths -----------------------------------------------------------------------


def legitimate(chance: random.Random) -> dict[str, str]:
    """Write one parameter of each kind."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    word, other = ("".join(chance.choices(letters, k=chance.randint(1, 12))) for _ in range(2))
    name = chance.choice(("José", "Zoë", "日本", "Łódź", "naïve", "Ωmega", "😀", "Ärger"))
    return {
        "letters and digits": word,
        "capitals": word.title(),
        "UUID": str(__import__("uuid").UUID(int=chance.getrandbits(128))),
        "space, `%20`": f"{word}%20{other}",
        "slash in an id, `%2F`": f"{word}%2F{other}",
        "backslash, `%5C`": f"{word}%5C{other}",
        "UTF-8": quote(word + name),
        "Latin-1": quote((word + "é").encode("latin-1")),
        "matrix parameter": f"{word};v={other}",
        "`:` and `@`": f"urn:{word}@{other}",
        "e-mail, `%40`": f"{word}%40{other}.org",
        "time": f"20{chance.randint(10, 99)}-01-02T03%3A04%3A05%2B01%3A00",
        "plus": f"{word}+{other}",
        "percent, `%25`": f"{word}%25{other}",
        "encoded twice": quote(quote(f"{word} {name}")),
        "`%23`, `%3F`, `%26`": f"{word}%23{other}%3F{word}%26{other}",
        "file name": f"{word}.{other}.json",
        "JSON": quote('{"id":"' + word + '"}'),
        "URL": quote(f"https://{word}.org/{other}?a=b#c", safe=""),
        "base64": quote(__import__("base64").b64encode(chance.randbytes(18)).decode(), safe=""),
        "the guarded name in a longer one": chance.choice(
            (f"admin-{word}", f"{word}admin", "admins")
        ),
        "the guarded name with capitals": "Admin",
    }


PLAIN = re.compile(r"[A-Za-z0-9._~:@!$&'()*,=-]*")


def refusals(count: int, seed: int) -> list[tuple[str, int, int, int]]:
    """Count refusals of each kind: here, with equal topics, and if only plain text passed."""
    differing, alike = table(), table(alike=True)
    chance = random.Random(seed)
    found: dict[str, list[int]] = {}
    for _ in range(count):
        for kind, text in legitimate(chance).items():
            row = found.setdefault(kind, [0, 0, 0])
            row[0] += admitted(differing, f"/m/1.0.0/r/{text}") is None
            row[1] += admitted(alike, f"/m/1.0.0/r/{text}") is None
            row[2] += PLAIN.fullmatch(text) is None
    return [(kind, *row) for kind, row in found.items()]


# --- all of it ------------------------------------------------------------------------------


def main() -> int:
    """Run, and print Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=Path)
    parser.add_argument("--spellings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", type=int, default=8, help="of how many one goes through nginx")
    options = parser.parse_args()
    build: Path = options.build.resolve()
    chance = random.Random(options.seed)
    made = table()
    spellings: set[str] = set()
    while len(spellings) < options.spellings:
        spellings.add(spelling(chance))
    began = time.process_time()
    asked: dict[str, str] = {}
    for path in sorted(spellings):
        if (target := admitted(made, path)) is not None:
            asked.setdefault(target, path)
    spent = time.process_time() - began
    print(
        f"{len(spellings)} spellings (seed {options.seed}), {len(asked)} different targets let in"
    )
    print(f"{spent / len(spellings) * 1e6:.0f} us of processor time each\n", flush=True)
    targets = list(asked)
    configuration, fronts = nginx_configuration(build)
    (build / "nginx.conf").write_text(configuration)
    ports = {**PORTS, **fronts}
    bypasses: dict[str, list[str]] = {}
    with ExitStack() as stack:
        classes = f"{build}/classes:{build}/jars/*"
        start(stack, "node", str(build / "js/readers.js"), str(FIRST))
        start(stack, "java", "-Xmx512m", "-cp", classes, "Readers", str(FIRST + 10))
        start(stack, str(build / "go-readers"), str(FIRST + 20))
        for name, reader in PYTHON.items():
            program = str(HERE / "apps.py")
            start(stack, str(build / "venv/bin/python"), program, reader, str(PORTS[name]))
        start(stack, "nginx", "-p", str(build), "-c", str(build / "nginx.conf"))
        for port in ports.values():
            wait_for(port)
        print("| reader | read as guarded | read as another topic | not a topic | refused |")
        print("| --- | ---: | ---: | ---: | ---: |")
        with ProcessPoolExecutor(2) as pool:
            sent = [
                targets[:: options.part] if name.startswith("nginx") else targets for name in ports
            ]
            asking = pool.map(ask, ports.values(), sent)
            for name, mine, answers in zip(ports, sent, asking, strict=True):
                reached = [t for t, answer in zip(mine, answers, strict=True) if answer in GUARDED]
                bypasses[name] = reached
                kinds = Counter(
                    "guarded"
                    if answer in GUARDED
                    else "other"
                    if answer in ("id", "part", "ws")
                    else "none"
                    if answer in ("none", "404", "301", "302", "307", "308")
                    else "refused"
                    for answer in answers
                )
                row = (kinds[kind] for kind in ("guarded", "other", "none", "refused"))
                print(f"| {name} | {' | '.join(map(str, row))} |", flush=True)
    print(f"\nbypasses: {len({target for each in bypasses.values() for target in each})}")
    for name, reached in bypasses.items():
        for target in reached[:5]:
            print(f"  {name}: {asked[target]} -> {target}")
    print(
        "\n| legitimate parameter | refused of 500 | all topics alike | if only plain text passed |"
    )
    print("| --- | ---: | ---: | ---: |")
    for kind, *row in refusals(500, options.seed):
        print(f"| {kind} | {' | '.join(map(str, row))} |")
    return any(bypasses.values())


if __name__ == "__main__":
    sys.exit(main())

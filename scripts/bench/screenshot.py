"""Draw docs/top.svg: `trio-gw top` on a gateway of three workers with traffic. Takes a minute.

    python scripts/bench/screenshot.py [OUTPUT]

The command runs on a pty. The picture is the screen of a terminal emulator.
"""

from __future__ import annotations

import base64
import os
import random
import re
import sys
import tempfile
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text
from websockets.trio.client import connect

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.backends import start_echo
from support.commands import Serving, port_of, start
from support.projects import api, asyncapi, write
from support.screens import on_terminal

if TYPE_CHECKING:
    import pyte

DOCS = Path(__file__).parent.parent.parent / "docs"
WIDTH, HEIGHT = 132, 40
USERS = ("mobile", "kiosk", "web", "desk", "plant-3", "night-run", "probe")
PASSWORD = "only for a picture"  # noqa: S105 - of users that last a minute
SETTINGS = """\
workers = 3
[tiers."50PerSec"]
events = 50
per = "1s"
on_exceed = "drop"
"""
# Installed fonts, instead of one from the network.
FORMAT = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace;
 font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def projects(base: Path, url: str) -> None:
    """Write the projects: four APIs, one of them with a limit, and a broken one."""
    for name, topic in (("Chat", "/rooms/{room}"), ("Prices", "/{symbol}"), ("Trace", "/*")):
        context = f"/{name.lower()}"
        write(base / "apis", name, api(name, context, url), asyncapi({topic: {"publish": {}}}))
    limited = api("Telemetry", "/telemetry", url, apiThrottlingPolicy="50PerSec")
    write(base / "apis", "Telemetry", limited, asyncapi({"/devices/{id}": {"publish": {}}}))
    write(base / "apis", "Orders", api("Orders", "orders", url), asyncapi({"/*": {"publish": {}}}))


async def token(port: int, user: str) -> str:
    """Get a test token for a user."""
    pair = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
    head = f"POST /testkey HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {pair}\r\n"
    answer = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        async for chunk in stream:
            answer += chunk
    return answer.partition(b"\r\n\r\n")[2].decode()


async def client(url: str, bearer: str, size: int, pause: float) -> None:
    """Send messages of about this size, with about this pause between two."""
    chance = random.Random(url)
    headers = {"Authorization": f"Bearer {bearer}"}
    async with connect(url, proxy=None, additional_headers=headers) as connection:

        async def send() -> None:
            while True:
                await connection.send(os.urandom(int(size * chance.uniform(0.5, 1.5))))
                await trio.sleep(pause * chance.uniform(0.5, 1.5))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async for _ in connection:
                pass


def drawn(screen: pyte.Screen) -> str:
    """Convert the emulator's screen to an SVG."""
    console = Console(
        record=True, width=screen.columns, file=open("/dev/null", "w"),  # noqa: SIM115
        force_terminal=True, color_system="truecolor",
    )  # fmt: skip
    for y in range(screen.lines):
        line = Text()
        cells = [screen.buffer[y][x] for x in range(screen.columns)]
        for (front, bold, reverse), run in groupby(cells, lambda c: (c.fg, c.bold, c.reverse)):
            colour = {"default": None, "brown": "yellow"}.get(front, front)
            style = Style(color=colour, bold=bold, reverse=reverse)
            # One element per word: some viewers drop blanks at the ends of a text.
            for part in re.split("( +)", "".join(cell.data for cell in run)):
                line.append(part, style)
        console.print(line, no_wrap=True, overflow="crop")
    return console.export_svg(title="trio-gw top", code_format=FORMAT, theme=MONOKAI)


async def main() -> None:
    """Serve, connect, look, draw."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "top.svg"
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        async with trio.open_nursery() as nursery:
            backend = await start_echo(nursery)
            projects(base, backend.url)
            users = "".join(
                f'[[testkey.users]]\nusername = "{user}"\npassword = "{PASSWORD}"\n'
                for user in USERS
            )
            (base / "gateway.toml").write_text(SETTINGS + users)
            serving = Serving((await start(base, "run")).process)
            try:
                await serving.read_until("err", "worker 3 trio_gw: ready")
                traffic = port_of(serving.err)
                root = f"ws://127.0.0.1:{traffic}"
                tokens = [await token(traffic, user) for user in USERS]
                lines = serving.err.splitlines()
                admin = next(line for line in lines if "admin API on https://127" in line)
                for path, count, size, pause in (
                    ("chat/1.0.0/rooms/r{}", 40, 120, 0.5),
                    ("prices/1.0.0/sym{}", 16, 400, 0.1),
                    ("telemetry/1.0.0/devices/{}", 12, 60, 0.1),
                    ("trace/1.0.0/spans/{}", 4, 9000, 0.2),
                ):
                    for number in range(count):
                        where = f"{root}/{path.format(number)}"
                        bearer = tokens[number % len(tokens)]
                        nursery.start_soon(partial(client, where, bearer, size, pause))
                port = admin.rpartition(":")[2]
                url = f"https://localhost:{port}"
                arguments = ("top", "--url", url, "--ca", "certs/mg.pem")
                more = {"GW_PASSWORD": "admin"}
                async with on_terminal(
                    base, *arguments, size=(WIDTH, HEIGHT), environ=more
                ) as terminal:
                    with trio.move_on_after(9):
                        await terminal.until("\0")
                    terminal.press("jjq")
                    picture = drawn(terminal.screen)
                output.write_text(picture.replace(f":{port}", ":9843"))
            finally:
                serving.process.kill()
                await serving.process.wait()
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)

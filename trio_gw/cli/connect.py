"""`trio-gw connect`: opens a WebSocket, shows every frame, and explains how it ended.

Lines of standard input are sent as messages. A refusal is shown with status, headers, body and what
to do, as the console of the portal does.
"""

from __future__ import annotations

import base64
import os
import secrets
import ssl
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from trio_gw.cli.common import load_settings, print_problems, settings_argument
from trio_gw.errors import CloseCode, Refusal, Side, UnusableError
from trio_gw.escaping import escape
from trio_gw.guard.certificates import load_pair
from trio_gw.guard.testkey import TestKeys
from trio_gw.portal.explained_refusals import explain_refusal
from trio_gw.portal.explanations import Explanation, explain_close
from trio_gw.wire import frames
from trio_gw.wire.frame_reader import FrameReader, WholeFrame
from trio_gw.wire.frames import ViolationError
from trio_gw.wire.response import ResponseReader

if TYPE_CHECKING:
    import argparse

    from trio_gw.wire.response import BackendResponse

CONNECT = 20.0  # seconds for TCP, TLS and the answer to the upgrade, each
GOODBYE = 5.0  # seconds for the answer to a Close frame
SHOWN = 4096  # bytes of a payload that are shown
MAX_BODY = 1 << 16  # bytes of a refusal
CHUNK = 1 << 16
KINDS = {0: "more", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
CLEAN = (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    settings_argument(parser)
    parser.add_argument("url", metavar="URL", help="ws://… or wss://…")
    parser.add_argument(
        "--scope",
        metavar="NAME",
        action="append",
        default=[],
        help="a scope of the test token; may be repeated",
    )
    parser.add_argument("--no-token", action="store_true", help="connect without a token")
    parser.add_argument(
        "--header", metavar="'NAME: VALUE'", action="append", default=[], help="may be repeated"
    )
    parser.add_argument("--protocol", metavar="NAME", action="append", default=[])
    parser.add_argument("--ca", metavar="FILE", help="a certificate to trust, such as certs/mg.pem")
    parser.epilog = "The token is $TOKEN if that is set, else a test token as of `trio-gw token`."


def main(options: argparse.Namespace) -> int:
    """Connect; return 0 after a clean end, 1 after a refusal or any other end, 2 for bad usage."""
    try:
        token = _token(options)
        request, host, port, tls = _request(options, token)
    except UnusableError as error:
        print_problems(error.problems)
        return 1
    except ValueError as error:
        print(f"trio-gw connect: {error}", file=sys.stderr)
        return 2
    return trio.run(_connect, request, host, port, tls)


def _token(options: argparse.Namespace) -> str:
    if options.no_token:
        return ""
    if given := os.environ.get("TOKEN", ""):
        return given
    loaded = load_settings(options)
    settings, base = loaded.settings, loaded.base
    if not settings.testkey.enabled:
        return ""
    pair = load_pair(base / settings.tls.cert, base / settings.tls.key)
    keys = TestKeys(settings.testkey, pair)
    return keys.mint("admin", " ".join(options.scope) or None, time.time())


def _request(
    options: argparse.Namespace, token: str
) -> tuple[bytes, str, int, ssl.SSLContext | None]:
    """Build the handshake. Raises ValueError for a URL or header that cannot be sent."""
    url = urlsplit(options.url)
    if url.scheme not in ("ws", "wss") or not url.hostname:
        raise ValueError("the URL must begin with ws:// or wss:// and a host")
    tls = url.scheme == "wss"
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    fields = [
        f"GET {target} HTTP/1.1",
        f"Host: {url.netloc.rpartition('@')[2]}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
    ]
    if options.protocol:
        fields.append(f"Sec-WebSocket-Protocol: {', '.join(options.protocol)}")
    fields += options.header
    if token:
        fields.append(f"Authorization: Bearer {token}")
    if any(not field.isprintable() or ":" not in field for field in fields[1:]):
        raise ValueError("a header is `Name: value`, without control characters")
    if not (target.isascii() and target.isprintable()) or " " in target:
        raise ValueError("the path and the query must be percent-encoded")
    context = ssl.create_default_context(cafile=options.ca) if tls else None
    data = "\r\n".join((*fields, "", "")).encode()
    return data, url.hostname, url.port or (443 if tls else 80), context


async def _connect(data: bytes, host: str, port: int, tls: ssl.SSLContext | None) -> int:
    reader = ResponseReader()
    upgrade = ((b"host", b"-"), (b"upgrade", b"websocket"), (b"connection", b"upgrade"))
    reader.request("/", upgrade)
    started = time.perf_counter()
    try:
        with trio.fail_after(CONNECT):
            stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
            if tls is not None:
                stream = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
        async with stream:
            with trio.fail_after(CONNECT):
                await stream.send_all(data)
                answer = None
                while answer is None:
                    answer = reader.feed(bytes(await stream.receive_some(CHUNK)))
            _show_head(answer, (time.perf_counter() - started) * 1000)
            if answer.status != 101:
                return await _refused(stream, reader, answer)
            return await _Conversation(stream).run(reader.leftover)
    except (OSError, Refusal, trio.TooSlowError, *BROKEN) as error:
        cause = error.__cause__ or error
        why = "no answer in time" if isinstance(error, trio.TooSlowError) else str(cause)
        print(f"{host}:{port}: {escape(why) or 'the connection broke'}", file=sys.stderr)
        return 1


def _show_head(answer: BackendResponse, ms: float) -> None:
    print(f"{answer.status} {escape(answer.reason.decode('latin-1'))} in {ms:.1f} ms")
    for name, value in answer.headers:
        print(f"  {escape(name.decode('latin-1'))}: {escape(value.decode('latin-1'))}")


async def _refused(stream: trio.abc.Stream, reader: ResponseReader, answer: BackendResponse) -> int:
    body, ended = reader.read_body()
    with trio.move_on_after(GOODBYE), suppress(*BROKEN):
        while not ended and len(body) < MAX_BODY and (more := await stream.receive_some(CHUNK)):
            part, ended = reader.feed_body(bytes(more))
            body += part
    print("\n".join(escape(line) for line in body.decode(errors="replace").splitlines()))
    _explain(explain_refusal(answer.status, body))
    return 1


def _explain(found: Explanation) -> None:
    print(" ".join(filter(None, (found.what, found.advice))))


class _Conversation:
    """An open connection: lines in, frames out."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._closing = False
        self._end: frames.Close | None = None
        self._sending = trio.Lock()

    async def run(self, early: bytes) -> int:
        """Talk until either side ends; returns the exit code."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_lines)
            with suppress(*BROKEN):
                await self._receive(early)
            nursery.cancel_scope.cancel()
        end = self._end or frames.Close(CloseCode.ABNORMAL, "")
        by = Side.CLIENT if self._closing and self._end is not None else None
        print(f"closed: {end.code} {escape(end.reason)}".rstrip())
        _explain(explain_close(end.code, end.reason, by))
        return 0 if end.code in CLEAN else 1

    async def _receive(self, data: bytes) -> None:
        reader = FrameReader(masked=False, keep=SHOWN)
        while True:
            try:
                for frame in reader.feed(data):
                    await self._take(frame)
            except ViolationError as error:
                print(f"invalid frame: {escape(error.what)}", file=sys.stderr)
                return
            with trio.move_on_after(GOODBYE if self._end else float("inf")):
                data = bytes(await self._stream.receive_some(CHUNK))
                if data:
                    continue
            return

    async def _take(self, frame: WholeFrame) -> None:
        _show("←", frame)
        if frame.opcode == frames.PING:
            await self._send(frames.FIN | frames.PONG, frame.payload)
        elif frame.opcode == frames.CLOSE:
            self._end = frames.parse_close(frame.payload)
            if not self._closing:
                await self._send(frames.FIN | frames.CLOSE, frame.payload[:2])

    async def _send_lines(self) -> None:
        with suppress(*BROKEN):
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                await self._send(frames.FIN | frames.TEXT, line.rstrip("\n").encode())
            self._closing = True
            await self._send(frames.FIN | frames.CLOSE, int(CloseCode.NORMAL).to_bytes(2, "big"))
            await trio.sleep(GOODBYE)
            await trio.aclose_forcefully(self._stream)  # there was no answer

    async def _send(self, first: int, payload: bytes) -> None:
        async with self._sending:
            await self._stream.send_all(frames.frame(first, payload, masked=True))
        _show("→", WholeFrame(first, len(payload), payload[:SHOWN]))


def _show(arrow: str, frame: WholeFrame) -> None:
    """Print one line for a frame."""
    at, payload = time.time(), frame.payload
    try:
        text = payload[2:].decode() if frame.opcode == frames.CLOSE else payload.decode()
    except UnicodeDecodeError:
        text = payload[:64].hex(" ")
    if frame.opcode == frames.CLOSE and len(payload) >= 2:
        text = f"{int.from_bytes(payload[:2], 'big')} {text}"
    cut = " …" if frame.size > len(payload) else ""
    clock = f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at * 1000) % 1000:03}"
    kind = f"{KINDS[frame.opcode]}{'' if frame.fin else '…'}"
    print(f"{clock} {arrow} {kind:6} {frame.size:>6} B  {escape(text)}{cut}", flush=True)

"""Request heads that no gateway should let pass, each with the status it deserves.

The kinds of reliability §4.1 that a head shows, and more. What is wrong with the WebSocket
handshake in a head that is fine as HTTP is the business of `tests/wire/test_handshake.py`.
"""

from __future__ import annotations

import random

from trio_gw.wire.http import MAX_HEAD, MAX_TARGET

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HOST = b"Host: gw.example"
UPGRADE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Key: " + KEY,
    b"Sec-WebSocket-Version: 13",
)


def head(line: bytes = b"GET /chat HTTP/1.1", *fields: bytes, host: bytes = HOST) -> bytes:
    """Build a head; without fields those of an upgrade."""
    lines = (line, *((host,) if host else ()), *(fields or UPGRADE))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def target(path: bytes) -> bytes:
    return head(b"GET " + path + b" HTTP/1.1")


GOOD = head()
_LINES = {
    "empty line first": b"\r\n" + GOOD,
    "space first": b" " + GOOD,
    "no method": head(b" /chat HTTP/1.1"),
    "method is no token": head(b"G(T /chat HTTP/1.1"),
    "HTTP/0.9": b"GET /chat\r\n\r\n",
    "HTTP/0.9 with fields": head(b"GET /chat"),
    "no target": head(b"GET HTTP/1.1"),
    "no target, two spaces": head(b"GET  HTTP/1.1"),
    "two spaces before the target": head(b"GET  /chat HTTP/1.1"),
    "two spaces after the target": head(b"GET /chat  HTTP/1.1"),
    "space in the target": head(b"GET /ch at HTTP/1.1"),
    "space at the end": head(b"GET /chat HTTP/1.1 "),
    "tab for a space": head(b"GET\t/chat HTTP/1.1"),
    "tab in the target": target(b"/ch\tat"),
    "version in small letters": head(b"GET /chat http/1.1"),
    "version 1.10": head(b"GET /chat HTTP/1.10"),
    "version 1": head(b"GET /chat HTTP/1"),
    "version with a comma": head(b"GET /chat HTTP/1,1"),
    "version of another protocol": head(b"GET /chat ICY/1.1"),
    "authority-form": target(b"gw.example:80"),
    "asterisk": target(b"*"),
    "asterisk with a query": head(b"OPTIONS *?x HTTP/1.1"),
    "no slash": target(b"chat"),
    "query without path": target(b"?x"),
    "fragment": target(b"/chat#x"),
    "fragment in absolute-form": target(b"http://gw.example/#x"),
    "absolute-form, other host": target(b"http://evil.example/chat"),
    "absolute-form, other port": target(b"http://gw.example:81/chat"),
    "absolute-form, user": target(b"http://gw.example@evil.example/chat"),
    "absolute-form, no host": target(b"http:///chat"),
    "absolute-form, other scheme": target(b"ftp://gw.example/chat"),
    "absolute-form, backslash": target(b"http://gw.example\\@evil.example/chat"),
    "octet 0x80": target(b"/ch\x80at"),
    "UTF-8": target("/chät".encode()),
    "NUL": target(b"/ch\x00at"),
    "DEL": target(b"/ch\x7fat"),
    "ESC": target(b"/ch\x1bat"),
    "percent NUL": target(b"/ch%00at"),
    "percent NUL in the query": target(b"/chat?a=%00"),
    "percent alone": target(b"/chat%"),
    "percent and one digit": target(b"/chat%4"),
    "percent and no digits": target(b"/chat%zz"),
    "percent u": target(b"/chat%u002e"),
    "percent alone in the query": target(b"/chat?100%"),
    "target of absolute-form with dots": target(b"http://gw.example/../chat"),
}
_DOTS = (
    b"/..", b"/.", b"/./", b"/../", b"/../../etc/passwd", b"/a/../b", b"/a/./b", b"/a/..",
    b"/%2e%2e%2fadmin", b"/%2e%2e/admin", b"/%2E%2E/admin", b"/.%2e/admin", b"/%2e./admin",
    b"/%2e", b"/a%2f..%2fb", b"/a/..%2fb", b"/a\\..\\b", b"/a%5c..%5cb", b"/..\\", b"/..%5C",
    b"/a\\b", b"/\\", b"/\\\\host/a",
    b"/..;/admin", b"/a/..;v=1/b", b"/a/.;x/b", b"/..%3b/admin", b"/%2e%2e;", b"/a/..?x",
)  # fmt: skip
_FIELDS = {
    "bare LF": GOOD.replace(b"\r\n", b"\n"),
    "bare LF after the request line": GOOD.replace(b"1.1\r\n", b"1.1\n"),
    "bare LF between fields": GOOD.replace(b"example\r\n", b"example\n"),
    "bare LF at the end": GOOD[:-2] + b"\n",
    "LF in a value": head(b"GET / HTTP/1.1", b"X: a\nY: b"),
    "bare CR in a value": head(b"GET / HTTP/1.1", b"X: a\rY: b"),
    "bare CR in the target": target(b"/a\rb"),
    "CR CR LF": head(b"GET / HTTP/1.1", b"X: a\r"),
    "CR first": b"\r" + GOOD,
    "CR for CR LF": GOOD.replace(b"\r\n", b"\r"),
    "LF CR": GOOD.replace(b"\r\n", b"\n\r"),
    "folded with a space": head(b"GET / HTTP/1.1", b"X: a", b" b"),
    "folded with a tab": head(b"GET / HTTP/1.1", b"X: a", b"\tb"),
    "folded, a field inside": head(b"GET / HTTP/1.1", b"X: a", b" Content-Length: 5"),
    "folded first field": head(b"GET / HTTP/1.1", b"X: a", host=b" " + HOST),
    "folded empty line": head(b"GET / HTTP/1.1", b"X: a", b" "),
    "space before the colon": head(b"GET / HTTP/1.1", b"X : a"),
    "tab before the colon": head(b"GET / HTTP/1.1", b"X\t: a"),
    "space before Transfer-Encoding's colon": head(
        b"POST / HTTP/1.1", b"Content-Length: 5", b"Transfer-Encoding : chunked"
    ),
    "no colon": head(b"GET / HTTP/1.1", b"X"),
    "no name": head(b"GET / HTTP/1.1", b": a"),
    "space in a name": head(b"GET / HTTP/1.1", b"X Y: a"),
    "octet 0x80 in a name": head(b"GET / HTTP/1.1", b"X\x80: a"),
    "bracket in a name": head(b"GET / HTTP/1.1", b"X(: a"),
    "NUL in a name": head(b"GET / HTTP/1.1", b"X\x00: a"),
    "NUL in a value": head(b"GET / HTTP/1.1", b"X: a\x00b"),
    "control in a value": head(b"GET / HTTP/1.1", b"X: a\x01b"),
    "vertical tab in a value": head(b"GET / HTTP/1.1", b"X: a\x0bb"),
    "form feed in a value": head(b"GET / HTTP/1.1", b"X: a\x0cb"),
    "DEL in a value": head(b"GET / HTTP/1.1", b"X: a\x7fb"),
}
_HOSTS = {
    "missing": b"",
    "twice": HOST + b"\r\n" + HOST,
    "two different": HOST + b"\r\nHost: evil.example",
    "twice, once empty": HOST + b"\r\nHost:",
    "empty": b"Host:",
    "blank": b"Host:  ",
    "user": b"Host: user@gw.example",
    "user and password": b"Host: user:password@gw.example",
    "space": b"Host: gw.example evil",
    "comma": b"Host: gw.example, evil.example",
    "path": b"Host: gw.example/x",
    "URL": b"Host: http://gw.example",
    "query": b"Host: gw.example?x",
    "octet 0x80": b"Host: gw.ex\x80mple",
    "UTF-8": "Host: gw.exämple".encode(),
    "percent": b"Host: gw%2eexample",
    "backslash": b"Host: gw\\example",
    "quote": b'Host: "gw.example"',
    "wildcard": b"Host: *.example",
    "port above 65535": b"Host: gw.example:65536",
    "port of six digits": b"Host: gw.example:000080",
    "port that is no number": b"Host: gw.example:80a",
    "negative port": b"Host: gw.example:-1",
    "two ports": b"Host: gw.example:80:80",
    "port alone": b"Host: :80",
    "IPv6 without brackets": b"Host: ::1",
    "IPv6 half in brackets": b"Host: [::1",
    "IPv6 with a zone": b"Host: [fe80::1%25eth0]",
    "brackets around a name": b"Host: [gw.example]",
    "a dot": b"Host: .",
    "dots": b"Host: ...:80",
}
_LENGTHS = {
    "Content-Length and Transfer-Encoding": (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "Transfer-Encoding and Content-Length": (b"Transfer-Encoding: chunked", b"Content-Length: 0"),
    "two lengths": (b"Content-Length: 5", b"Content-Length: 6"),
    "two lengths in one": (b"Content-Length: 5, 6",),
    "length with a plus": (b"Content-Length: +5",),
    "negative length": (b"Content-Length: -5",),
    "hexadecimal length": (b"Content-Length: 0x5",),
    "length with a space": (b"Content-Length: 5 5",),
    "length with a point": (b"Content-Length: 5.0",),
    "no length": (b"Content-Length:",),
    "length in other digits": ("Content-Length: \u0665".encode(),),
    "gzip": (b"Transfer-Encoding: gzip",),
    "identity": (b"Transfer-Encoding: identity",),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked",),
    "chunked, gzip": (b"Transfer-Encoding: chunked, gzip",),
    "chunked twice in one": (b"Transfer-Encoding: chunked, chunked",),
    "chunked twice": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "xchunked": (b"Transfer-Encoding: xchunked",),
    "chunked with a parameter": (b"Transfer-Encoding: chunked;q=1",),
    "chunked in quotes": (b'Transfer-Encoding: "chunked"',),
    "chunked after a vertical tab": (b"Transfer-Encoding: \x0bchunked",),
    "empty encoding": (b"Transfer-Encoding:",),
}
_OTHERS = {
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "SSL 2 hello": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
    "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "SMTP": b"EHLO gw.example\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "SOCKS 5": b"\x05\x01\x00",
    "PROXY": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GOOD,
    "PROXY v2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c",
    "a response": b"HTTP/1.1 200 OK\r\n\r\n",
    "zeros": bytes(64),
    "octets above ASCII": b"A" + bytes(range(0x80, 0x100)),
    "random octets": b"A" + random.Random(4321).randbytes(500),
}
LONG = MAX_HEAD + 10_000
_STATUS = {
    "HTTP/1.2": (head(b"GET /chat HTTP/1.2"), 505),
    "HTTP/2.0": (head(b"GET /chat HTTP/2.0"), 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/9.9 with a bad field": (head(b"GET /chat HTTP/9.9", b"X : a"), 505),
    "CONNECT": (head(b"CONNECT gw.example:80 HTTP/1.1"), 405),
    "CONNECT with a path": (head(b"CONNECT / HTTP/1.1"), 405),
    "target one byte too long": (target(b"/" + b"x" * MAX_TARGET), 414),
    "target of 70 KB": (target(b"/" + b"x" * LONG), 414),
    "query of 70 KB": (target(b"/?" + b"x" * LONG), 414),
    "method of 70 KB": (head(b"G" * LONG + b" / HTTP/1.1"), 414),
    "request line without end": (b"GET /" + b"x" * LONG, 414),
    "101 fields": (head(b"GET / HTTP/1.1", *[b"X: a"] * 100), 431),
    "500 fields": (head(b"GET / HTTP/1.1", *[b"X: a"] * 500), 431),
    "field of 70 KB": (head(b"GET / HTTP/1.1", b"X: " + b"a" * LONG), 431),
    "name of 70 KB": (head(b"GET / HTTP/1.1", b"X" * LONG + b": a"), 431),
    "fields without end": (GOOD[:-2] + b"X: a\r\n" * 12_000, 431),
    # Two things wrong: the one that a reader byte by byte meets first.
    "70 KB, then a NUL": (target(b"/" + b"x" * LONG + b"\x00"), 414),
    "NUL, then 70 KB": (target(b"/\x00" + b"x" * LONG), 400),
    "70 KB field, then a bare LF": (head(b"GET / HTTP/1.1", b"X: " + b"a" * LONG + b"\n"), 431),
    "bare LF, then a 70 KB field": (head(b"GET / HTTP/1.1", b"X: \n" + b"a" * LONG), 400),
    "long target and a bare CR": (target(b"/" + b"x" * (MAX_TARGET + 100) + b"\r"), 414),
}

MALFORMED: dict[str, tuple[bytes, int]] = {
    **{f"line: {kind}": (data, 400) for kind, data in _LINES.items()},
    **{f"dots: {path.decode()}": (target(path), 400) for path in _DOTS},
    **{f"field: {kind}": (data, 400) for kind, data in _FIELDS.items()},
    **{f"host: {kind}": (head(host=host), 400) for kind, host in _HOSTS.items()},
    **{
        f"length: {kind}": (head(b"POST / HTTP/1.1", *fields), 400)
        for kind, fields in _LENGTHS.items()
    },
    **{f"other: {kind}": (data, 400) for kind, data in _OTHERS.items()},
    **_STATUS,
}

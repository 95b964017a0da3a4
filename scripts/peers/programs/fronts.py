"""HAProxy and nginx in front of the gateway, and a client that tells what the backend saw."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from common import (
    BASE,
    CA,
    GATEWAY,
    HEADERS,
    TLS_GATEWAY,
    bound,
    equal,
    free_port,
    main,
    port_of,
    say,
    supervise,
)
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as listen

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout tunnel 1h
    option forwardfor
frontend front
    bind 127.0.0.1:{port}
    default_backend gateway
backend gateway
    option httpchk GET /health
    http-check expect status 200
    default-server check inter 200ms
    server plain 127.0.0.1:{http}
    server secure 127.0.0.1:{https} ssl verify required ca-file {ca} verifyhost localhost
    balance roundrobin
"""

NGINX = """
daemon off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    map $http_upgrade $upgrading {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {gateway};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $upgrading;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_ssl_trusted_certificate {ca};
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
        }}
    }}
}}
"""


def serve(text: str, command: str, option: str, gateway: str = "") -> None:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config")
        config.write_text(
            text.format(
                port=port, http=port_of(GATEWAY), https=port_of(TLS_GATEWAY), ca=CA, folder=folder,
                gateway=gateway,
            )
        )  # fmt: skip
        supervise([command, option, config], port)


def handle(socket: ServerConnection) -> None:
    """Send the headers of the request, then what comes back."""
    assert socket.request is not None
    socket.send(json.dumps({name.lower(): value for name, value in socket.request.headers.items()}))
    for message in socket:
        socket.send(message)


def backend() -> None:
    taken = bound()
    say(taken.getsockname()[1])
    listen(handle, sock=taken).serve_forever()


def talk() -> None:
    """Connect four times, so that every server of a balancer has its turn."""
    front = f"ws://127.0.0.1:{os.environ['PEER_FRONT']}"
    headers = HEADERS | {"X-Forwarded-For": "203.0.113.7"}
    for _ in range(4):
        with connect(f"{front}{BASE}/echo", additional_headers=headers, proxy=None) as socket:
            seen = json.loads(socket.recv())
            equal(seen["x-forwarded-for"].split(", ")[0], "203.0.113.7")
            socket.send("grüße")
            equal(socket.recv(), "grüße")


main(
    {
        "haproxy": lambda: serve(HAPROXY, "haproxy", "-f"),
        "nginx": lambda: serve(NGINX, "nginx", "-c", GATEWAY),
        "nginx-tls": lambda: serve(NGINX, "nginx", "-c", TLS_GATEWAY),
        "backend": backend,
        "talk": talk,
    }
)

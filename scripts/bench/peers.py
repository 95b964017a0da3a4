"""Starts the gateway and the other proxies: one worker, a plain and a TLS port, minimal settings.

Each proxy listens on one plain and one TLS port and forwards all paths to one plain backend. In
addition the gateway checks the client's token and routes the path by an API project. The access
logs of the other proxies are off, which favours them; the gateway writes a line per connection.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from processes import BUILD, MOST, PROXY_CORE, BenchError, free_port, start, wait_upgraded

from trio_gw.guard.certificates import ensure_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BASE = "/bench/1.0.0"
SCRIPTS = Path(sys.executable).parent


class Ports(NamedTuple):
    """Where a proxy listens, and where its backend does."""

    plain: int
    tls: int
    backend: int


class Peer(NamedTuple):
    """A running proxy. Without a process, the load goes directly to the backend."""

    name: str
    plain: int
    tls: int
    process: subprocess.Popen[str] | None
    header: str

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid


Command = tuple[list[str | Path], dict[str, str]]  # and the environment


def certificate(folder: Path) -> None:
    """Create the certificate of all proxies: `cert.pem`, `key.pem`, and both in `both.pem`."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    ensure_certificate(cert, key, datetime.datetime.now(datetime.UTC))
    (folder / "both.pem").write_text(cert.read_text() + key.read_text())


def _gateway(
    work: Path, ports: Ports, *, pure: bool, more: str = "", tiers: tuple[str, str] = ("", "")
) -> Command:
    """Write the settings and one API project with a secured topic for each kind of backend.

    `tiers` are those of the API and of its topics.
    """
    toml = (
        f'[listen]\nhttp = "127.0.0.1:{ports.plain}"\nhttps = "127.0.0.1:{ports.tls}"\nadmin = ""\n'
        '[tls]\ncert = "cert.pem"\nkey = "key.pem"\n' + more
    )
    (work / "gateway.toml").write_text(toml)
    project = work / "apis" / "Bench"
    (project / "Definitions").mkdir(parents=True, exist_ok=True)
    url = f"ws://127.0.0.1:{ports.backend}"
    data = {
        "name": "Bench",
        "version": "1.0.0",
        "context": "/bench",
        "type": "WS",
        "apiThrottlingPolicy": tiers[0],
        "endpointConfig": {"production_endpoints": {"url": url}},
    }
    (project / "api.yaml").write_text(json.dumps({"data": data}))
    channels = {
        f"/{name}": {"publish": {"x-uri-mapping": f"/{name}", "x-throttling-tier": tiers[1]}}
        for name in ("echo", "push", "stream")
    }
    definition = {"asyncapi": "2.6.0", "channels": channels}
    (project / "Definitions" / "asyncapi.yaml").write_text(json.dumps(definition))
    command: list[str | Path] = [SCRIPTS / "trio-gw", "run", "--config", work / "gateway.toml"]
    return command, {"TRIO_GW_PURE": "1"} if pure and is_compiled() else {}


def _pure(work: Path, ports: Ports) -> Command:
    return _gateway(work, ports, pure=True)


def _compiled(work: Path, ports: Ports) -> Command:
    return _gateway(work, ports, pure=False)


def _counting(work: Path, ports: Ports, *, pure: bool) -> Command:
    """Set high limits on all levels, and enable all metrics."""
    more = "".join(
        f'[tiers.{name}]\n{limit}\nper = "1d"\n'
        for name, limit in (
            ("Plenty", 'bytes = "200GB"'),
            ("Much", "events = 100_000_000_000"),
            ("Unlimited", "events = 100_000_000_000"),
        )
    )
    return _gateway(work, ports, pure=pure, more=more, tiers=("Plenty", "Much"))


def _bare(work: Path, ports: Ports, *, pure: bool) -> Command:
    return _gateway(work, ports, pure=pure, more="[metrics]\nenabled = false\n")


def _nginx(work: Path, ports: Ports, buffers: str = "") -> Command:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise BenchError("nginx is not installed")
    temporary = "\n".join(
        f"{kind}_temp_path {work}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (work / "nginx.conf").write_text(f"""\
{"user root;" if os.getuid() == 0 else ""}
daemon off; worker_processes 1; pid {work}/nginx.pid; error_log stderr error;
events {{ worker_connections {2 * MOST + 100}; }}
http {{
  access_log off; {temporary}
  server {{
    listen 127.0.0.1:{ports.plain} backlog=4096;
    listen 127.0.0.1:{ports.tls} ssl backlog=4096;
    ssl_certificate {work}/cert.pem; ssl_certificate_key {work}/key.pem;
    location / {{
      proxy_pass http://127.0.0.1:{ports.backend};
      proxy_http_version 1.1; proxy_read_timeout 3600s; {buffers}
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }}
  }}
}}
""")
    return [program, "-e", "stderr", "-p", work, "-c", work / "nginx.conf"], {}


def _nginx_large(work: Path, ports: Ports) -> Command:
    large = "proxy_buffer_size 64k; proxy_buffers 4 64k; proxy_busy_buffers_size 64k;"
    return _nginx(work, ports, large)


def _haproxy(work: Path, ports: Ports, tuning: str = "") -> Command:
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise BenchError("haproxy is not installed")
    (work / "haproxy.cfg").write_text(f"""\
global
  nbthread 1
  maxconn {MOST}
  {tuning}
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend clients
  bind 127.0.0.1:{ports.plain} backlog 4096
  bind 127.0.0.1:{ports.tls} ssl crt {work}/both.pem alpn http/1.1 backlog 4096
  default_backend echo
backend echo
  server one 127.0.0.1:{ports.backend}
""")
    return [program, "-db", "-f", work / "haproxy.cfg"], {}


def _haproxy_large(work: Path, ports: Ports) -> Command:
    return _haproxy(work, ports, "tune.bufsize 65536")


def _envoy(work: Path, ports: Ports) -> Command:
    types = "type.googleapis.com/envoy.extensions"
    http = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "stream_idle_timeout": "0s",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "echo", "timeout": "0s"},
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"},
            }
        ],
    }
    tls = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{types}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["http/1.1"],
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": f"{work}/cert.pem"},
                        "private_key": {"filename": f"{work}/key.pem"},
                    }
                ],
            },
        },
    }

    def address(port: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": http}
    listeners = [
        {
            "name": name,
            "address": address(port),
            "filter_chains": [{"filters": [manager], **extra}],
        }
        for name, port, extra in (
            ("plain", ports.plain, {}),
            ("tls", ports.tls, {"transport_socket": tls}),
        )
    ]
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 10 * MOST)
    endpoint = {"endpoint": {"address": address(ports.backend)}}
    cluster = {
        "name": "echo",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": "echo",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    config = {"static_resources": {"listeners": listeners, "clusters": [cluster]}}
    (work / "envoy.json").write_text(json.dumps(config))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return [BUILD / "venv/bin/envoy", "-c", work / "envoy.json", *options], {}


def _traefik(work: Path, ports: Ports) -> Command:
    never = {"respondingTimeouts": {"readTimeout": 0, "idleTimeout": 0}}
    static = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "ERROR"},
        "entryPoints": {
            "plain": {"address": f"127.0.0.1:{ports.plain}", "transport": never},
            "tls": {"address": f"127.0.0.1:{ports.tls}", "transport": never},
        },
        "providers": {"file": {"filename": f"{work}/dynamic.yml", "watch": False}},
    }
    rule = {"rule": "PathPrefix(`/`)", "service": "echo"}
    servers = [{"url": f"http://127.0.0.1:{ports.backend}"}]
    pair = {"certFile": f"{work}/cert.pem", "keyFile": f"{work}/key.pem"}
    dynamic = {
        "http": {
            "routers": {
                "plain": {**rule, "entryPoints": ["plain"]},
                "tls": {**rule, "entryPoints": ["tls"], "tls": {}},
            },
            "services": {"echo": {"loadBalancer": {"servers": servers}}},
        },
        "tls": {"stores": {"default": {"defaultCertificate": pair}}},
    }
    (work / "static.yml").write_text(json.dumps(static))
    (work / "dynamic.yml").write_text(json.dumps(dynamic))
    command: list[str | Path] = [BUILD / "venv/bin/traefik", f"--configFile={work}/static.yml"]
    return command, {"GOMAXPROCS": "1"}


def _caddy(work: Path, ports: Ports) -> Command:
    upstreams = [{"dial": f"127.0.0.1:{ports.backend}"}]
    server = {
        "automatic_https": {"disable": True},
        "protocols": ["h1"],
        "routes": [{"handle": [{"handler": "reverse_proxy", "upstreams": upstreams}]}],
    }
    files = [{"certificate": f"{work}/cert.pem", "key": f"{work}/key.pem"}]
    config = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {
            "http": {
                "servers": {
                    "plain": {**server, "listen": [f"127.0.0.1:{ports.plain}"]},
                    "tls": {
                        **server,
                        "listen": [f"127.0.0.1:{ports.tls}"],
                        "tls_connection_policies": [{"alpn": ["http/1.1"]}],
                    },
                }
            },
            "tls": {"certificates": {"load_files": files}},
        },
    }
    (work / "caddy.json").write_text(json.dumps(config))
    homes = {"XDG_DATA_HOME": str(work), "XDG_CONFIG_HOME": str(work)}
    command: list[str | Path] = [BUILD / "venv/bin/caddy", "run", "--config", work / "caddy.json"]
    return command, {"GOMAXPROCS": "1", **homes}


PURE, COMPILED, NONE = "trio-gw", "trio-gw compiled", "no proxy"
OURS = (PURE, COMPILED)
COMMANDS: dict[str, Callable[[Path, Ports], Command]] = {
    PURE: _pure,
    COMPILED: _compiled,
    "nginx": _nginx,
    "nginx 64k": _nginx_large,
    "haproxy": _haproxy,
    "haproxy 64k": _haproxy_large,
    "envoy": _envoy,
    "traefik": _traefik,
    "caddy": _caddy,
}


# What `limits.py` compares: with and without limits and metrics, pure and compiled.
COUNTING: dict[str, Callable[[Path, Ports], Command]] = {
    "counting pure": functools.partial(_counting, pure=True),
    "bare pure": functools.partial(_bare, pure=True),
    "counting compiled": functools.partial(_counting, pure=False),
    "bare compiled": functools.partial(_bare, pure=False),
}


@functools.cache
def is_compiled() -> bool:
    """Tell whether the gateway in this environment has a compiled hot path."""
    return "relay: compiled" in _output([SCRIPTS / "trio-gw", "version"])


def version(name: str) -> str:
    """Ask a program for its version."""
    path = f"{BUILD}/venv/bin:{SCRIPTS}:{os.environ['PATH']}:/usr/sbin"
    program = shutil.which(name, path=path)
    flags = {"nginx": ["-v"], "haproxy": ["-v"], "envoy": ["--version"]}
    text = "" if program is None else _output([program, *flags.get(name, ["version"])])
    return text.strip()


def _output(command: list[str | Path]) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout + done.stderr


@contextlib.contextmanager
def running(name: str, work: Path, backend: int, *, watched: bool = False) -> Iterator[Peer]:
    """Run a proxy in its own folder below `work` until the context ends.

    `watched` is only for the gateway: it then reports its number of tasks (`watched.py`).
    """
    if name == NONE:
        yield Peer(name, backend, backend, None, "X-None: yes")
        return
    folder = work / name.replace(" ", "-")
    folder.mkdir(exist_ok=True)
    for pem in work.glob("*.pem"):
        shutil.copy(pem, folder)
    ports = Ports(free_port(), free_port(), backend)
    command, environment = (COMMANDS | COUNTING)[name](folder, ports)
    header = "X-None: yes"
    if name in (*OURS, *COUNTING):
        mint = [str(SCRIPTS / "trio-gw"), "token", "--config", str(folder / "gateway.toml")]
        token = subprocess.run(mint, capture_output=True, text=True, timeout=30, check=True).stdout
        header = f"Authorization: Bearer {token.strip()}"
    log = folder / "log"
    streams = {}
    if watched:
        command = [sys.executable, Path(__file__).parent / "watched.py", *command[1:]]
        streams["stdout"] = subprocess.PIPE
    with start(command, cores=PROXY_CORE, log=log, environment=environment, **streams) as process:
        try:
            wait_upgraded(process, ports.plain, f"{BASE}/echo", header)
        except BenchError as error:
            raise BenchError(f"{name}: {error}\n{log.read_text()[-2000:]}") from None
        yield Peer(name, ports.plain, ports.tls, process, header)

"""A real RabbitMQ, from the package of the distribution: own ports, own folder, on loopback only.

One broker serves all tests of a session that ask for the fixture `rabbitmq`; modules that use it
carry `pytestmark = pytest.mark.xdist_group("rabbitmq")`, so that there is one for all of them.
Tests leave it running. `Publisher` sends what API Manager sends.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import trio
import trustme

from support.tls import chain_of, leaf

if TYPE_CHECKING:
    from collections.abc import Sequence

USER = PASSWORD = "admin"
VHOSTS = ("/", "carbon")
_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
_STARTED = b"Server startup complete"
_PATIENCE = 120  # seconds, for a start on a busy machine
_PERMISSIONS = {"user": USER, "configure": ".*", "write": ".*", "read": ".*"}


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, outside the range of outgoing connections.

    A broker that is started again needs the same ports.
    """
    found: list[int] = []
    chosen = random.SystemRandom()
    while len(found) < count:
        port = chosen.randrange(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class RabbitMQ:
    """One broker. `port` is for AMQP, `tls_port` for AMQP over TLS with a certificate of `ca`.

    The user `admin`, password `admin`, may use both virtual hosts, `/` and `carbon`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port, self._epmd_port, dist_port, ctl_port = free_ports(5)
        self.ca = trustme.CA(key_type=trustme.KeyType.RSA)
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._up = False
        self.log: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._configure()
        self._env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(ctl_port),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(ctl_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +A 4"
            ),
        }

    def url(self, *, tls: bool = False, vhost: str = "", query: str = "") -> str:
        """Return the URL of this broker as it stands in the settings."""
        scheme, port = ("amqps", self.tls_port) if tls else ("amqp", self.port)
        query = query or "?retries='100'&connectdelay='0.1'"
        return f"{scheme}://{USER}:{PASSWORD}@localhost:{port}/{vhost}{query}"

    def start(self) -> None:
        """Start it and wait until it accepts connections. Does nothing while it runs."""
        if self._process is not None:
            return
        if self._epmd is None:
            address = ("-address", "127.0.0.1", "-port", str(self._epmd_port))
            self._epmd = subprocess.Popen(["epmd", *address], stdin=subprocess.DEVNULL)
        self._process = process = subprocess.Popen(
            [_PROGRAMS / "rabbitmq-server"],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._up = False
        told = threading.Event()  # it is up, or it has ended
        threading.Thread(target=self._follow, args=(process, told), daemon=True).start()
        if not told.wait(_PATIENCE) or not self._up:
            self.stop()
            raise AssertionError("RabbitMQ did not start:\n" + "\n".join(self.log[-40:]))

    def stop(self, *, orderly: bool = False) -> None:
        """End it: at once, or orderly, with a reason to all connections. Does nothing twice."""
        if (process := self._process) is None:
            return
        self._process = None
        if orderly:
            self._run("stop")
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait(_PATIENCE)

    def close(self) -> None:
        """End it for good, and remove its folder."""
        self.stop()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pause(self) -> None:
        """Stop the whole process: its connections stay open and silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process continue."""
        self._signal(signal.SIGCONT)

    async def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl, and return its output. Takes about a second."""
        return await trio.to_thread.run_sync(self._run, *arguments)

    async def close_connections(self) -> None:
        """Close all connections, as an operator would."""
        await self.ctl("close_all_connections", "closed by a test")

    async def restart(self, *, orderly: bool = True) -> None:
        """End it and start it again, on the same ports."""
        await trio.to_thread.run_sync(lambda: self.stop(orderly=orderly))
        await trio.to_thread.run_sync(self.start)

    def _follow(self, process: subprocess.Popen[bytes], told: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.log.append(line.decode("utf-8", "replace").rstrip())
                del self.log[:-2000]
                if _STARTED in line:
                    self._up = True
                    told.set()
        told.set()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [_PROGRAMS / "rabbitmqctl", "-q", *arguments],
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return done.stdout.decode()

    def _configure(self) -> None:
        cert = leaf(self.ca, "localhost")
        files = {
            "ca.pem": self.ca.cert_pem.bytes(),
            "cert.pem": chain_of(cert),
            "key.pem": cert.private_key_pem.bytes(),
            "enabled_plugins": b"[].\n",
            "definitions.json": json.dumps(
                {
                    "users": [{"name": USER, "password": PASSWORD, "tags": "administrator"}],
                    "vhosts": [{"name": name} for name in VHOSTS],
                    "permissions": [{**_PERMISSIONS, "vhost": name} for name in VHOSTS],
                }
            ).encode(),
            "rabbitmq.conf": "\n".join(_settings(self.folder, self.port, self.tls_port)).encode(),
        }
        for name, data in files.items():
            (self.folder / name).write_bytes(data)


def _settings(folder: Path, port: int, tls_port: int) -> Sequence[str]:
    return (
        f"listeners.tcp.1 = 127.0.0.1:{port}",
        f"listeners.ssl.1 = 127.0.0.1:{tls_port}",
        f"ssl_options.cacertfile = {folder}/ca.pem",
        f"ssl_options.certfile = {folder}/cert.pem",
        f"ssl_options.keyfile = {folder}/key.pem",
        "ssl_options.verify = verify_none",
        "ssl_options.fail_if_no_peer_cert = false",
        f"load_definitions = {folder}/definitions.json",
        "disk_free_limit.absolute = 1MB",
        "log.console = true",
        "log.console.level = info",
        "log.file = false",
        "",
    )

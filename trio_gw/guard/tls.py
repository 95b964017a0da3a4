"""The certificates of the TLS listeners by host name, and the client certificates they trust.

There is one `ServerTls` per process. The listener uses `context` for each connection that it
accepts, so a new certificate applies to new connections, and open ones stay as they are. The
contexts are rebuilt in a worker thread when a certificate or the trust changes. What was read from
each file is kept, so that a broken file does not affect the others.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from cryptography import x509

from trio_gw.errors import Problem, UnusableError
from trio_gw.guard.anchors import load_anchors
from trio_gw.guard.certificates import KeyPair, check_current, expiry, parse_pair, read
from trio_gw.guard.clients import ClientPeer, first_of, peer_of
from trio_gw.guard.protocol import Protocol, protocols
from trio_gw.watch.files import Reloaded

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from trio_gw.config.settings import Admin, Tls

log = logging.getLogger("trio_gw.tls")

PROTOCOLS = ("http/1.1",)  # WebSockets need HTTP/1.1, and the admin API offers nothing else
MAX_REMEMBERED = 10_000  # client certificates that were verified against `tls.client_ca`


class Shown(msgspec.Struct, frozen=True):
    """A certificate chain with its key, as read from the files, and its host names.

    The repr hides the key.
    """

    pair: KeyPair
    chain: bytes
    key: bytes
    hosts: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Shown(hosts={self.hosts!r})"


def read_shown(
    cert: Path,
    key: Path,
    hosts: Sequence[str] = (),
    protocols: Collection[Protocol] = (Protocol(),),
    *,
    further: bool = False,
) -> Shown:
    """Read a certificate chain and its key, and check that TLS can use them with `protocols`.

    `hosts` replaces the DNS names in the certificate. A `further` certificate, in addition to the
    default, needs a name: otherwise no client would get it. Raises UnusableError.
    """
    chain, data = read(cert, "the certificate"), read(key, "the private key")
    pair = parse_pair(cert, chain, key, data)
    names = tuple(host.lower().rstrip(".") for host in hosts or _names(pair.certificate))
    shown = Shown(pair, chain, data, names)
    try:
        for protocol in protocols:
            _context(shown, (), protocol)
    except ssl.SSLError as error:
        what = f"TLS cannot use this certificate and key: {error.reason or error}"
        raise UnusableError([Problem(str(cert), 0, 0, what, "create them again")]) from None
    if further and not names:
        what = "the certificate names no DNS host, so no client would get it"
        hint = "name its hosts under [[tls.certificates]]"
        raise UnusableError([Problem(str(cert), 0, 0, what, hint)])
    return shown


class ServerTls:
    """The certificates and the trust of the TLS listeners. `context` is for the next connection.

    `admin` is for the next connection to the admin API, which asks for no client certificate.

    Raises UnusableError with every file that cannot be used.
    """

    context: ssl.SSLContext
    admin: ssl.SSLContext

    def __init__(self, settings: Tls, base: Path, admin: Admin | None = None) -> None:
        self._base = base
        self._protocols = protocols(settings, admin)
        self._client_ca = settings.client_ca
        self._files: list[tuple[Path, Path, tuple[str, ...]]] = [
            (base / settings.cert, base / settings.key, ())
        ]
        self._files += [
            (base / one.cert, base / one.key, one.hosts) for one in settings.certificates
        ]
        problems: list[Problem] = []
        self._shown: list[Shown] = []
        self._anchors: tuple[str, ...] = ()
        self._pinned: tuple[str, ...] = ()
        for index, (cert, key, hosts) in enumerate(self._files):
            try:
                self._shown.append(read_shown(cert, key, hosts, self._protocols, further=index > 0))
            except UnusableError as error:
                problems += error.problems
        try:
            if settings.client_ca:
                self._anchors = load_anchors(base / settings.client_ca, "tls.client_ca")
        except UnusableError as error:
            problems += error.problems
        if problems:
            raise UnusableError(problems)
        self._cas = frozenset(ssl.PEM_cert_to_DER_cert(pem) for pem in self._anchors)
        self._remembered: dict[bytes, None] = {}
        self._building = trio.Lock()
        self._threads = trio.CapacityLimiter(
            1
        )  # its own: a DNS that does not respond must not delay it
        self.context = _contexts(self._shown, self._anchors, self._protocols[0])
        self.admin = _contexts(self._shown, (), self._protocols[1])

    @property
    def pair(self) -> KeyPair:
        """The default certificate and its key."""
        return self._shown[0].pair

    @property
    def hosts(self) -> list[str]:
        """The host names of all certificates."""
        return [name for shown in self._shown for name in shown.hosts]

    @property
    def has_client_ca(self) -> bool:
        """Return whether the settings name an authority for client certificates."""
        return bool(self._anchors)

    def warnings(self, now: datetime.datetime) -> list[Problem]:
        """Return a warning for each certificate that is not valid at `now` (aware)."""
        found = [
            expiry(cert, shown.pair.certificate, now)
            for (cert, _, _), shown in zip(self._files, self._shown, strict=True)
        ]
        return [problem for problem in found if problem is not None]

    # -- reloading -------------------------------------------------------------------------

    def files(self) -> list[Reloaded[Any]]:
        """Return what is reloaded when it changes; the default certificate comes first."""
        items: list[Reloaded[Any]] = [self._item(index) for index in range(len(self._files))]
        if self._client_ca:
            path = self._base / self._client_ca

            def load() -> tuple[str, ...]:
                return load_anchors(path, "tls.client_ca")

            items.append(Reloaded(f"client trust {path}", (path,), load, self._use_anchors))
        return items

    def _item(self, index: int) -> Reloaded[Shown]:
        cert, key, hosts = self._files[index]

        def load() -> Shown:
            shown = read_shown(cert, key, hosts, self._protocols, further=index > 0)
            check_current(cert, shown.pair.certificate)
            return shown

        async def use(shown: Shown) -> bool:
            known = self._shown[index]
            if (known.chain, known.key) == (shown.chain, shown.key):
                return False
            self._shown[index] = shown
            await self._rebuild()
            return True

        return Reloaded(f"certificate {cert}", (cert, key), load, use)

    async def _use_anchors(self, anchors: tuple[str, ...]) -> bool:
        if anchors == self._anchors:
            return False
        self._anchors = anchors
        await self._rebuild()
        return True

    async def pin(self, certificates: Iterable[str]) -> None:
        """Trust these client certificates (PEM) themselves, in addition to those of `client_ca`."""
        pinned = tuple(sorted({first_of(pem) for pem in certificates}))
        if pinned != self._pinned:
            self._pinned = pinned
            await self._rebuild()

    async def _rebuild(self) -> None:
        async with self._building:
            shown, anchors, pinned = list(self._shown), self._anchors, self._pinned
            trusted = (*anchors, *pinned)
            make = partial(trio.to_thread.run_sync, limiter=self._threads)
            context = await make(_contexts, shown, trusted, self._protocols[0])
            admin = await make(_contexts, shown, (), self._protocols[1])
            self.context, self.admin = context, admin
            self._cas = frozenset(ssl.PEM_cert_to_DER_cert(pem) for pem in anchors)
            self._remembered.clear()

    # -- clients ---------------------------------------------------------------------------

    def identify(self, tls: ssl.SSLObject | ssl.SSLSocket) -> ClientPeer | None:
        """Tell whose certificate the client showed in a finished handshake, if it did."""
        der = tls.getpeercert(binary_form=True)
        if der is None:
            return None
        # A session that TLS 1.2 resumes has no chain.
        if not tls.session_reused and not self._cas.isdisjoint(_verified(tls)):
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[der] = None
        return peer_of(der, by_ca=der in self._remembered)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return names.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        return []


def _contexts(shown: Sequence[Shown], trusted: Sequence[str], protocol: Protocol) -> ssl.SSLContext:
    """Build the context of the first certificate, which switches to the others by host name."""
    contexts = [_context(one, trusted, protocol) for one in shown]
    first = contexts[0]
    if len(contexts) > 1:
        hosts: dict[str, ssl.SSLContext] = {}
        for one, context in zip((*shown[1:], shown[0]), (*contexts[1:], first), strict=True):
            for name in one.hosts:
                hosts.setdefault(name, context)
        first.sni_callback = _chooser(hosts)
        _hear_bad_names()
    return first


def _chooser(hosts: dict[str, ssl.SSLContext]) -> Callable[..., None]:
    def choose(tls: ssl.SSLObject, name: str | None, _first: ssl.SSLContext) -> None:
        if name is not None and (context := choose_host(hosts, name)) is not None:
            tls.context = context

    return choose


def _hear_bad_names() -> None:
    """Log a line instead of a traceback for a host name that is not ASCII.

    The module `ssl` decodes the name before it calls back. The handshake fails, and only the
    interpreter's hook gets the exception: any client could fill standard error.
    """
    earlier = sys.unraisablehook
    if getattr(earlier, "__name__", "") == _unraisable.__name__:
        return

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not _unraisable(unraisable):
            earlier(unraisable)

    hook.__name__ = _unraisable.__name__
    sys.unraisablehook = hook


def _unraisable(unraisable: sys.UnraisableHookArgs) -> bool:
    """Log a name that cannot be decoded; return whether that was the error."""
    error = unraisable.exc_value
    where = unraisable.err_msg or ""
    if not isinstance(error, UnicodeDecodeError) or error.encoding != "ascii":
        return False
    if unraisable.object != error.object and "ssl" not in where:
        return False
    log.debug("a client requested a host name that is not ASCII: %r", error.object[:80])
    return True


def choose_host(hosts: dict[str, ssl.SSLContext], name: str) -> ssl.SSLContext | None:
    """Find a host by its full name, else by a wildcard for its first label (RFC 6125 §6.4.3)."""
    name = name.lower().rstrip(".")
    label, _, rest = name.partition(".")
    return hosts.get(name) or (hosts.get(f"*.{rest}") if label and rest else None)


def _context(shown: Shown, trusted: Sequence[str], protocol: Protocol) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    protocol.apply(context)
    context.options |= (
        ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_alpn_protocols(list(PROTOCOLS))
    with _in_memory(shown.chain) as chain, _in_memory(shown.key) as key:
        context.load_cert_chain(chain, key)
    if trusted:
        context.verify_mode = ssl.CERT_OPTIONAL
        # A certificate that a project names is trusted itself, regardless of its issuer.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata="".join(trusted))
        # No session tickets: every connection shows its certificate, as the trust may change.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """Pass the checked bytes to the module `ssl`, which accepts only files."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _verified(tls: ssl.SSLObject | ssl.SSLSocket) -> list[bytes]:
    """Return the chain that the handshake verified, up to the anchor, as DER.

    The method is public since Python 3.13 and private before. Without it no certificate counts as
    verified against `tls.client_ca`.
    """
    if (public := getattr(tls, "get_verified_chain", None)) is not None:
        return list(public())
    inner: Any = getattr(tls, "_sslobj", None)
    chain: list[Any] = getattr(inner, "get_verified_chain", list)() or []
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in chain]

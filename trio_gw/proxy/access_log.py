"""The log line for each connection, written at its end: client, target, outcome and reason.

In the gateway's own format it is a log line with fields (docs/observability.md lists them). It can
also have the format of the reference's access log (spec: frames §8).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from trio_gw.errors import CloseCode, Ending, Phase, Side
from trio_gw.escaping import escape
from trio_gw.guard.refusals import BLOCKED
from trio_gw.telemetry import logs

if TYPE_CHECKING:
    from trio_gw.proxy.sessions import Session
    from trio_gw.telemetry.logs import Value

log = logging.getLogger("trio_gw.connection")
access = logging.getLogger("trio_gw.access")

# The flags of the reference's router for our error codes (spec: routing §9).
_FLAGS = {"102503": "UF", "102508": "UH", "102504": "UT", "102502": "UPE", "404": "NR"}


def record(session: Session, style: str = "own") -> None:
    """Write the line. `style` is `own`, `reference` or `off` (settings `log.access`).

    A connection that sent nothing, such as a port probe, gets no line. A request to a built-in
    path, such as a health check, is logged at level DEBUG only.
    """
    if style == "own":
        _own(session)
    elif style == "reference" and session.status:
        access.info("%s", reference(session))


def ending_of(session: Session) -> Ending | None:
    """Return how a session ended. A relayed session always has an ending."""
    if session.ending is None and session.publish is not None:
        return Ending(Side.GATEWAY, CloseCode.ABNORMAL, "stopped")
    return session.ending


def _own(session: Session) -> None:
    level = logging.INFO
    ending = ending_of(session)
    if session.status and session.route is None and ending is None:
        level = logging.DEBUG
    if session.request == "-" and not session.status and session.publish is None:
        return
    if not log.isEnabledFor(level):
        return
    seconds = session.age
    fields: dict[str, Value] = {
        "client": session.peer,
        "request": session.request,
        "phase": session.phase,
        "duration": round(seconds, 6),
    }
    if ending is not None:
        fields["by"] = ending.by
        fields["reason"] = ending.reason
    publish, subscribe = session.publish, session.subscribe
    subject = f"{session.peer} {session.request}"
    if publish is not None and subscribe is not None:
        assert ending is not None
        why = f"{ending.code} {ending.reason}".rstrip()
        message = (
            f"{subject} ended by {ending.by}: {why}, after {seconds:.3f} s,"
            f" messages in {publish.messages}, out {subscribe.messages}"
        )
        fields["code"] = ending.code
        fields["messages_in"] = publish.messages
        fields["messages_out"] = subscribe.messages
    elif session.status:
        why = "" if ending is None else f", {ending.by}: {ending.reason}"
        phase = session.phase
        message = f"{subject} answered {session.status} in phase {phase} after {seconds:.3f} s{why}"
        fields["status"] = session.status
    else:
        message = f"{subject} left in phase {session.phase} after {seconds:.3f} s"
    logs.event(log, level, message, fields, _more(session))


def _more(session: Session) -> dict[str, Value]:
    """Return the fields that are not part of the message."""
    more: dict[str, Value] = {"request_id": session.request_id}
    if session.info.address not in ("", session.peer):
        more["address"] = session.info.address
    if (caller := session.caller) is not None:
        more["user"], more["application"] = caller.subject, caller.application.name
    if (route := session.route) is not None:
        api = route.api
        more["api"], more["version"], more["topic"] = api.name, api.version, route.topic.name
        more["vhost"] = session.info.vhost
    if session.backend:
        more["backend"] = session.backend
    if session.code:
        more["error"] = session.code
    if (publish := session.publish) is not None and (subscribe := session.subscribe) is not None:
        more["status"] = session.status
        more["frames_in"], more["frames_out"] = publish.frames, subscribe.frames
        more["octets_in"], more["octets_out"] = publish.octets, subscribe.octets
        if dropped := session.dropped:
            more["dropped"] = dropped
    return more


def reference(session: Session) -> str:
    """Format the line of the reference's router. The backend's path is shown without its query."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(session.started))
    publish, subscribe, info = session.publish, session.subscribe, session.info
    method, _, path = session.request.partition(" ")
    let_in = session.phase not in (Phase.HEAD, Phase.ROUTE, Phase.AUTHENTICATE)
    flags = "UAEX" if session.code.startswith(("9009", BLOCKED)) else _FLAGS.get(session.code, "-")
    return " ".join(
        (
            f"[{stamp}.{int(session.started % 1 * 1000):03d}Z]",
            _quoted(
                f"{_plain(method)} {_plain(path) if let_in else '-'}"
                f" {_plain(session.backend_path or path)} HTTP/1.1"
            ),
            str(session.status),
            flags,
            str(publish.octets if publish is not None else 0),
            str(subscribe.octets if subscribe is not None else 0),
            str(int(session.age * 1000)),
            "-",
            _quoted(_plain(info.forwarded_for)),
            _quoted(_plain(info.user_agent)),
            _quoted(_plain(session.request_id)),
            _quoted(_plain(info.authority)),
            _quoted(_plain(session.backend.partition("://")[2])),
        )
    )


def _plain(text: str) -> str:
    """Escape a text so that it fits between quotes."""
    return escape(logs.cut(text)).replace("'", "\\x27") or "-"


def _quoted(text: str) -> str:
    return f"'{text}'"

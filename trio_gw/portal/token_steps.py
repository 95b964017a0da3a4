"""What a token says, and which of the checks of a token it passes. Pure.

The order is that of the gateway. A refusal names the check that failed; those before it passed,
those after it were not reached. No step holds a part of the token but names that are no secrets.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.escaping import escape
from trio_gw.guard.compact import UnacceptableError, UndecodableError, parse

if TYPE_CHECKING:
    from trio_gw.errors import Refusal

MAX_SHOWN = 200  # characters of a claim
MAX_SCOPES = 30

CHECKS = (
    *("token", "issuer", "signature", "audience", "expiry", "revocation", "subscription"),
    *("scopes", "key type"),
)
# By a text in the refusal's reason, or its code, the check that failed.
_BY_WHY = (
    ("key offered to an API", "key type"),
    ("Invalid key type", "key type"),
    ("the algorithm is not allowed", "signature"),
    ("not for this algorithm", "signature"),
    ("no credential", "token"),
    ("not a bearer", "token"),
    ("two credential", "token"),
    ("too long", "token"),
    ("not three parts", "token"),
    ("JSON object", "token"),
    ("of another kind", "token"),
    ("critical extensions", "token"),
    ("no issuer, or no signature", "token"),
    ("no usable expiry", "expiry"),
    ("signature does not verify", "signature"),
    ("another audience", "audience"),
    ("not valid yet", "expiry"),
    ("expired", "expiry"),
    ("is revoked", "revocation"),
    ("inactive", "revocation"),
)
_BY_CODE = {
    "900900": "signature",
    "900903": "expiry",
    "900904": "revocation",
    "900907": "subscription",
    "900908": "subscription",
    "900909": "subscription",
    "900910": "scopes",
}


# What to do where the general advice for the answer is not to the point.
_ADVICE = {
    "key type": "Use a key of the other type, or give the API a backend for this type.",
    "issuer": "Use a token of an issuer that [[issuers]] of the gateway names.",
}


class Step(msgspec.Struct, frozen=True):
    """One check: whether it passed (None: it was not reached), what it found, what to do."""

    step: str
    ok: bool | None
    what: str
    advice: str = ""
    code: str = ""


def failed_check(refusal: Refusal) -> str:
    """Return the check of a token that a refusal is about; empty for another one."""
    for text, check in _BY_WHY:
        if text in refusal.why:
            return check
    return _BY_CODE.get(refusal.code, "") or ("issuer" if refusal.code == "900901" else "")


def token_steps(
    token: bytes, refusal: Refusal | None, failure: Step | None, wanted: tuple[str, ...]
) -> list[Step]:
    """Describe each check. `failure` is the step of `refusal`; `wanted` are the topic's scopes."""
    claims = _claims(token)
    failed = failed_check(refusal) if refusal is not None else ""
    if failed not in CHECKS:
        return [] if failure is None else [failure]
    steps: list[Step] = []
    for check in CHECKS:
        if check == failed:
            assert failure is not None
            found = _found(check, claims, wanted)
            what = f"{failure.what} {found}" if found and check != "token" else failure.what
            advice = _ADVICE.get(check, failure.advice)
            steps.append(msgspec.structs.replace(failure, step=check, what=what, advice=advice))
            break
        steps.append(Step(check, True, _found(check, claims, wanted) or "passes"))
    later = CHECKS[len(steps) :]
    return [*steps, *(Step(check, None, "not reached") for check in later)]


def passed_steps(token: bytes, wanted: tuple[str, ...]) -> list[Step]:
    """Describe the checks of a token that passes all of them."""
    claims = _claims(token)
    return [Step(check, True, _found(check, claims, wanted) or "passes") for check in CHECKS]


def _claims(token: bytes) -> dict[str, Any]:
    try:
        return parse(token, lasting=True).claims
    except (UndecodableError, UnacceptableError):
        return {}


def _found(check: str, claims: dict[str, Any], wanted: tuple[str, ...]) -> str:
    match check:
        case "token":
            return "a signed token (JWT)" if claims else "a token"
        case "issuer":
            return f"It names the issuer {_text(claims.get('iss'))}." if "iss" in claims else ""
        case "audience":
            return f"It is for {_text(claims.get('aud'))}." if "aud" in claims else ""
        case "expiry":
            return f"It expires {_date(claims['exp'])}." if "exp" in claims else ""
        case "subscription":
            return _application(claims)
        case "scopes":
            return _scopes(claims, wanted)
        case "key type":
            return f"It is {_text(claims.get('keytype'))}." if "keytype" in claims else ""
        case _:
            return ""


def _scopes(claims: dict[str, Any], wanted: tuple[str, ...]) -> str:
    given = claims.get("scope", "")
    names = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    has = ", ".join(_text(one) for one in names[:MAX_SCOPES]) or "no scopes"
    if not wanted:
        return f"The topic asks for none; the token has {has}."
    return f"The topic asks for one of {', '.join(wanted[:MAX_SCOPES])}; the token has {has}."


def _application(claims: dict[str, Any]) -> str:
    application = claims.get("application")
    name = application.get("name") if isinstance(application, dict) else None
    return f"Its application is {_text(name)}." if name else ""


def _text(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return escape(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")


def _date(value: object) -> str:
    try:
        when = datetime.datetime.fromtimestamp(float(value), datetime.UTC)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return "at no date"
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")

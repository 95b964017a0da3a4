"""Every way in which the gateway refuses or closes a connection is explained."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import trio_gw
from trio_gw.errors import CloseCode, Side
from trio_gw.guard.entitlement import Denial
from trio_gw.portal.explained_refusals import CODES as REFUSAL_CODES
from trio_gw.portal.explained_refusals import REFUSALS, explain_refusal
from trio_gw.portal.explanations import CODES, REASONS, YOU, explain_close, known_reason
from trio_gw.proxy import fault_types, refusals

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(trio_gw.__file__).parent
MAKERS = {"router_refusal": 1, "auth_refusal": 1, "Refusal": 1, "bad_request": 1}
MAY = re.compile(r"(efusal|bad_request|\.end|Ending|ViolationError)\(")
# Functions that pass the code of their callers on.
PASSED_ON = {"router_refusal", "auth_refusal", "bad_request", "full", "throttled", "unable"}


def calls(node: ast.AST, around: str = "") -> Iterator[tuple[str, str, ast.Call]]:
    """Yield all calls: the function around, the name that is called, the call."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield around, getattr(child.func, "attr", getattr(child.func, "id", "")), child
        inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else around
        yield from calls(child, inner)


@functools.cache
def trees() -> list[tuple[Path, ast.Module]]:
    """Parse the files that may refuse or close."""
    texts = ((path, path.read_text()) for path in sorted(PACKAGE.rglob("*.py")))
    return [(path, ast.parse(text)) for path, text in texts if MAY.search(text)]


def text_of(node: ast.expr | None, constants: dict[str, str]) -> str | None:
    """Return a text as it is written; parts that are filled in become `x`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values
        )
    if isinstance(node, ast.IfExp):
        return text_of(node.body, constants)
    return constants.get(node.id) if isinstance(node, ast.Name) else None


def constants_of(tree: ast.Module) -> dict[str, str]:
    """Return the texts that a file gives a name, in functions too."""
    return {
        node.targets[0].id: found
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if (found := text_of(node.value, {})) is not None
    }


def codes_of_the_gateway() -> set[str]:
    """List the codes of all refusals: what is written at the calls that make them."""
    found = {"400", "429", "503"}  # the default of `bad_request`; those of `refusals.full`
    found |= {str(fault_types.of_level(level).code) for level in (*fault_types._LEVELS, "other")}
    for path, tree in trees():
        constants = constants_of(tree)
        for around, name, call in calls(tree):
            if name not in MAKERS or path.name in ("explained_refusals.py",):
                continue
            if len(call.args) <= MAKERS[name]:
                assert name == "bad_request", f"{path}: {ast.unparse(call)}"
                continue
            code = text_of(call.args[MAKERS[name]], constants)
            assert code or around in PASSED_ON, f"{path}: {ast.unparse(call)}"
            found |= {code} if code else set()
    return found


def test_every_refusal_is_explained() -> None:
    codes = codes_of_the_gateway()
    assert {"900901", "404", "102515", "426"} <= codes
    assert codes - REFUSAL_CODES == set(), "add them to trio_gw/portal/explained_refusals.py"


def reasons_of_the_gateway() -> set[str]:
    """List the reasons with which the gateway closes: what is written at the calls that do."""
    found = {denial.value for denial in Denial}
    for path, tree in trees():
        if path.is_relative_to(PACKAGE / "portal") or path.is_relative_to(PACKAGE / "testing"):
            continue
        constants = constants_of(tree)
        for _, name, call in calls(tree):
            reason: ast.expr | None = None
            first = ast.unparse(call.args[0]) if call.args else ""
            if name == "Ending" and first.endswith("GATEWAY"):
                reason = call.args[2]
            elif name == "end" and "CloseCode." in first and len(call.args) == 2:
                reason = call.args[1]
            elif (
                name == "end" and len(call.args) == 3 and "CloseCode." in ast.unparse(call.args[1])
            ):
                reason = call.args[2]
            elif name == "ViolationError" and path.parent.name in ("relay", "wire"):
                found |= {
                    f"{side}: {what}"
                    for side in ("client", "backend")
                    if (what := text_of(call.args[0], constants))
                }
            if (text := text_of(reason, constants)) is not None:
                found.add(text)
    return found


def test_every_reason_of_the_gateway_is_explained() -> None:
    reasons = reasons_of_the_gateway()
    expected = {"token expired", "token revoked", "x is blocked", "gateway is shutting down"}
    assert expected <= reasons
    written = {reason.replace("x is blocked", "user is blocked") for reason in reasons}
    written |= {"idle for 300 s", "open for 86400 s", "API limit Gold exceeded"}
    missing = {reason for reason in written if known_reason(reason) is None}
    assert missing == set(), "add them to trio_gw/portal/explanations.py"


def test_every_close_code_is_explained() -> None:
    assert set(CODES) >= {*CloseCode, *range(1000, 1016)}


def test_texts_are_whole() -> None:
    texts = [(one.what, one.advice) for one in REFUSALS]
    texts += [(one.what, one.advice) for one in REASONS]
    for what, advice in texts:
        assert what.endswith("."), what
        assert advice.endswith("."), advice


@pytest.mark.parametrize(
    ("code", "reason", "by", "who", "what"),
    [
        (1008, "token expired", Side.GATEWAY, "gateway", "has expired"),
        (1008, "token expired", Side.BACKEND, "backend", "A rule forbids"),
        (1008, "token expired", None, "", "has expired"),
        (1001, "idle for 300 s", Side.GATEWAY, "gateway", "No frame passed"),
        (1000, "done", Side.CLIENT, YOU, "did its job"),
        (1006, "", None, "", "without a Close frame"),
        (4001, "done", Side.BACKEND, "backend", "of an application"),
        (3001, "", Side.CLIENT, YOU, "of a library"),
        (2999, "", Side.BACKEND, "backend", "not registered"),
    ],
)
def test_ends(code: int, reason: str, by: Side | None, who: str, what: str) -> None:
    found = explain_close(code, reason, by)
    assert (found.code, found.reason, found.who) == (str(code), reason, who)
    assert what in found.what


def test_refusals_of_the_gateway_and_of_a_backend() -> None:
    missing = refusals.not_found()
    assert explain_refusal(missing.status, missing.body).what.startswith("No topic")
    denied = explain_refusal(404, b"<html>nothing here</html>")
    assert (denied.code, denied.who) == ("404", "backend")
    assert explain_refusal(418, b"\xff{").what.endswith("418.")
    assert explain_refusal(401, b'{"code": 7}').who == "backend"

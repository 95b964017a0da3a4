"""Opaque tokens: the issuer's answers, the cache, and issuers that do not answer.

The server is real, on a loopback socket. The clock is virtual: only the test advances it.
"""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.issuers import Answer, HttpServer, form, start_http
from support.secrets import secret, wrote
from support.visits import visit
from trio_gw.config.settings import Claims, Issuer
from trio_gw.errors import Refusal
from trio_gw.guard.introspection import BAD_SECONDS, GOOD_SECONDS, REST_SECONDS, Introspection
from trio_gw.guard.keys import KeyRing
from trio_gw.guard.revocations import Revocations
from trio_gw.guard.schemes import Verifiers
from trio_gw.guard.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock

    from trio_gw.guard.caller import Caller

NOW = 1_900_000_000.0
ISSUER = "https://opaque.example"
PASSWORD = secret("a secret: with % and +")
GOOD = secret("opaque-good-0123456789.~+/==")
ENDED = secret("opaque-ended-0123456789")
BAD = secret("opaque-unknown-0123456789")


class World:
    """One or more issuers with their answers, and the guard that asks them."""

    def __init__(self, server: HttpServer, guard: Verifiers) -> None:
        self.server = server
        self.guard = guard

    async def ask(self, token: str = GOOD, now: float = NOW, **demand: Any) -> Caller:
        headers = [(b"authorization", b"Bearer " + token.encode())]
        return await visit(self.guard, headers, now, **demand)

    async def refused(self, token: str = GOOD, now: float = NOW, **demand: Any) -> tuple[int, str]:
        with pytest.raises(Refusal) as caught:
            await self.ask(token, now, **demand)
        wrote(f"{caught.value} {caught.value.body!r}", "refusal")
        return caught.value.status, caught.value.code


@contextlib.asynccontextmanager
async def serving(
    answers: dict[str, Any], folder: Path, *issuers: Issuer, **settings: Any
) -> AsyncIterator[World]:
    """Run an issuer that knows these tokens. A value is its JSON answer, or (status, bytes)."""

    def respond(head: bytes, body: bytes) -> Answer:
        answer = answers.get(form(body)["token"], {"active": False})
        return answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode())

    async with trio.open_nursery() as nursery:
        server = await start_http(nursery, respond)
        one = Issuer(
            ISSUER,
            name="Opaque",
            introspection_url=server.url("/introspect"),
            client_id="gate way",
            client_secret=PASSWORD,
            **settings,
        )
        introspection = Introspection((*issuers, one))
        await nursery.start(introspection.run)
        ring = KeyRing((), folder)
        yield World(server, Verifiers(Tokens(ring), Revocations(), introspection))
        nursery.cancel_scope.cancel()


async def test_an_active_token_names_its_caller(tmp_path: Path, mock_clock: MockClock) -> None:
    answer = {
        "active": True,
        "sub": "carol",
        "scope": "read write",
        "client_id": "app-1",
        "exp": int(NOW) + 600,
        "jti": "id-1",
        "keytype": "sandbox",
    }
    async with serving({GOOD: answer}, tmp_path) as world:
        caller = await world.ask(scopes=("write",))
        assert (caller.subject, caller.issuer, caller.issuer_name) == ("carol", ISSUER, "Opaque")
        assert (caller.consumer_key, caller.token_id, caller.key_type) == (
            "app-1",
            "id-1",
            "SANDBOX",
        )
        assert (caller.expires_at, caller.scopes) == (NOW + 600, frozenset({"read", "write"}))
        assert GOOD not in str(caller.claims())
        assert await world.refused(scopes=("other",)) == (403, "900910")
        ((head, body),) = world.server.requests  # only one request
    assert head.startswith(b"POST /introspect HTTP/1.1\r\n")
    # Each is form-encoded, then both are encoded as Basic (RFC 6749 §2.3.1).
    pair = base64.b64encode(b"gate%20way:a%20secret%3A%20with%20%25%20and%20%2B")
    assert b"\r\nauthorization: Basic " + pair + b"\r\n" in head.replace(b"Auth", b"auth")
    assert form(body) == {"token": GOOD, "token_type_hint": "access_token"}


async def test_claims_and_audience_are_the_issuers(tmp_path: Path, mock_clock: MockClock) -> None:
    answers = {
        GOOD: {"active": True, "username": "dave", "aud": ["x", "gw"], "cid": "k"},
        BAD: {"active": True, "aud": "x"},
    }
    settings: dict[str, Any] = {"audience": ("gw",), "consumer_key_claim": "cid"}
    async with serving(answers, tmp_path, claims=Claims(subject="username"), **settings) as world:
        caller = await world.ask()
        assert (caller.subject, caller.consumer_key) == ("dave", "k")
        assert await world.refused(BAD) == (401, "900904")


@pytest.mark.parametrize(
    "answer",
    [
        {"active": False, "sub": "x"},
        {"active": True, "iss": "https://other.example"},
        {"active": True, "exp": "soon"},
        {"active": True, "exp": 1e300},
        {"active": True, "exp": True},
    ],
    ids=str,
)
async def test_what_the_issuer_does_not_vouch_for(
    tmp_path: Path, mock_clock: MockClock, answer: dict[str, Any]
) -> None:
    async with serving({GOOD: answer}, tmp_path) as world:
        assert await world.refused() == (401, "900904")


async def test_a_good_answer_is_remembered_for_a_minute(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with serving({GOOD: {"active": True, "sub": "a"}}, tmp_path) as world:
        for seconds, asked in ((0.0, 1), (GOOD_SECONDS - 1, 1), (2.0, 2)):
            mock_clock.jump(seconds)
            assert (await world.ask()).expires_at is None
            assert len(world.server.requests) == asked


async def test_a_bad_answer_is_remembered_for_ten_seconds(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with serving({}, tmp_path) as world:
        for seconds, asked in ((0.0, 1), (BAD_SECONDS - 1, 1), (2.0, 2)):
            mock_clock.jump(seconds)
            assert await world.refused(BAD) == (401, "900904")
            assert len(world.server.requests) == asked


async def test_nothing_is_remembered_beyond_the_tokens_life(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with serving({GOOD: {"active": True, "exp": int(NOW) + 10}}, tmp_path) as world:
        await world.ask()
        await world.ask(now=NOW + 14)  # within the grace of five seconds
        assert await world.refused(now=NOW + 15) == (401, "900903")
        assert len(world.server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"{}"),
        (401, b'{"active":true}'),
        (302, b'{"active":true}'),
        (200, b""),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"active":1}'),
        (200, b'{"active":"true"}'),
        (200, b"[" * 100_000),
        (200, b'{"active":true,"x":"' + b"x" * (1 << 20) + b'"}'),
    ],
    ids=lambda answer: f"{answer[0]} {answer[1][:20]!r}",
)
async def test_an_endpoint_that_does_not_say(
    tmp_path: Path, mock_clock: MockClock, answer: Answer
) -> None:
    answers: dict[str, Any] = {GOOD: answer}
    async with serving(answers, tmp_path) as world:
        assert await world.refused() == (503, "900900")
        # The gateway waits before the next request.
        assert await world.refused() == (503, "900900")
        assert len(world.server.requests) == 1
        answers[GOOD] = {"active": True, "sub": "a"}
        mock_clock.jump(REST_SECONDS)
        assert (await world.ask()).subject == "a"


async def test_the_refusal_for_now_says_to_try_again(tmp_path: Path, mock_clock: MockClock) -> None:
    async with serving({GOOD: (500, b"")}, tmp_path) as world:
        with pytest.raises(Refusal) as caught:
            await world.ask()
    assert dict(caught.value.headers) == {
        b"content-type": b"application/json",
        b"retry-after": b"1",
    }
    assert caught.value.body == (
        b'{"error_message":"Unclassified Authentication Failure","code":"900900",'
        b'"error_description":"The token cannot be checked at the moment. Try again shortly"}'
    )


async def test_an_endpoint_that_is_not_there(tmp_path: Path, mock_clock: MockClock) -> None:
    async with serving({}, tmp_path) as world:
        port = world.server.port
    gone = Issuer(
        ISSUER,
        introspection_url=f"http://127.0.0.1:{port}/i",
        client_id="a",
        client_secret=PASSWORD,
    )
    async with trio.open_nursery() as nursery:
        introspection = Introspection([gone])
        await nursery.start(introspection.run)
        world = World(
            world.server, Verifiers(Tokens(KeyRing((), tmp_path)), Revocations(), introspection)
        )
        assert await world.refused() == (503, "900900")
        nursery.cancel_scope.cancel()


async def test_an_endpoint_that_hangs_is_given_up(tmp_path: Path, mock_clock: MockClock) -> None:
    async with serving({GOOD: {"active": True}}, tmp_path) as world:
        world.server.gate = trio.Event()
        arrived = world.server.arrived
        async with trio.open_nursery() as nursery:

            async def one() -> None:
                assert await world.refused() == (503, "900900")

            for _ in range(5):
                nursery.start_soon(one)
            await arrived.wait()
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(5.0)
        assert len(world.server.requests) == 1


async def test_many_handshakes_with_one_token_ask_once(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with serving({GOOD: {"active": True, "sub": "a"}}, tmp_path) as world:
        world.server.gate = trio.Event()
        arrived = world.server.arrived
        callers: list[Caller] = []

        async def one() -> None:
            callers.append(await world.ask())

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one)
            await arrived.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert callers == []
            world.server.gate.set()
        assert len(callers) == 100
        assert len(world.server.requests) == 1


async def test_who_asked_may_leave_and_another_asks(tmp_path: Path, mock_clock: MockClock) -> None:
    async with serving({GOOD: {"active": True, "sub": "a"}}, tmp_path) as world:
        world.server.gate = trio.Event()
        arrived = world.server.arrived
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as first:
                async with trio.open_nursery() as leaving:
                    leaving.start_soon(world.ask)
                    await arrived.wait()
                    nursery.start_soon(world.ask)
                    await trio.testing.wait_all_tasks_blocked()
                    first.cancel()
            world.server.gate.set()
        assert len(world.server.requests) == 2


async def test_questions_at_once_are_bounded(tmp_path: Path, mock_clock: MockClock) -> None:
    async with serving({}, tmp_path) as world:
        world.server.gate = trio.Event()

        async def one(number: int) -> None:
            assert await world.refused(f"opaque-{number:020}") == (401, "900904")

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(one, number)
            while len(world.server.requests) < 16:
                await world.server.arrived.wait()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert len(world.server.requests) == 16
            world.server.gate.set()
        assert len(world.server.requests) == 60


async def test_every_issuer_is_asked_until_one_knows(tmp_path: Path, mock_clock: MockClock) -> None:
    async with serving({BAD: {"active": True, "sub": "other"}}, tmp_path) as other:
        first = Issuer(
            "https://first.example",
            name="First",
            introspection_url=other.server.url("/i"),
            client_id="a",
            client_secret=PASSWORD,
        )
        async with serving({GOOD: {"active": True, "sub": "a"}}, tmp_path, first) as world:
            assert (await world.ask()).issuer_name == "Opaque"
            assert (await world.ask(BAD)).issuer_name == "First"
            assert await world.refused(ENDED) == (401, "900904")
            world.server.respond = lambda *_: (500, b"")
            assert await world.refused("opaque-nobody-knows") == (503, "900900")


@pytest.mark.parametrize("token", ["a b", "x" * 4097, "opaque!", "o\u00e9", "a.b", "=", ""])
async def test_what_cannot_be_a_token_asks_nobody(
    tmp_path: Path, mock_clock: MockClock, token: str
) -> None:
    async with serving({}, tmp_path) as world:
        expected = (401, "900904") if token == "a.b" else (401, "900901")
        assert await world.refused(token) == expected
        assert len(world.server.requests) == (token == "a.b")


async def test_without_issuers_that_can_be_asked_there_is_nothing(tmp_path: Path) -> None:
    assert not Introspection([Issuer("https://x", jwks="a")])
    guard = Verifiers(Tokens(KeyRing((), tmp_path)), Revocations())
    with pytest.raises(Refusal) as caught:
        await visit(guard, [(b"authorization", b"Bearer opaque")], NOW)
    assert (caught.value.status, caught.value.code) == (401, "900901")
    assert "hidden" not in repr(Issuer("https://x", client_secret=PASSWORD))
    assert PASSWORD not in repr(Issuer("https://x", client_secret=PASSWORD))

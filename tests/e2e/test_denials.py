"""Deny conditions over real sockets: refused at the handshake, ended while open, lifted."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from support.adminapi import AdminClient
from support.backends import read_head, start_raw
from support.denied import BODY, Barred, closed, start_barred
from support.gateway import KEY
from support.logged import logged
from support.numbers import samples, total
from support.schemas import validate
from trio_gw.config.conditions import condition
from trio_gw.guard.denials import Denials
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.both_forms

# Each kind, a condition that concerns `alice` with `App` from 127.0.0.1, and one that does not.
KINDS = [
    ("api", "/c/1.0.0", "/c/1.0.1"),
    ("application", "owner:App", "owner:Other"),
    ("user", "alice@carbon.super", "bob@carbon.super"),
    ("address", "127.0.0.0/8", "10.0.0.0/8"),
    ("subscription", "/c/1.0.0:1.0.0:owner-App:PRODUCTION", "/c/1.0.0:1.0.0:owner-App:SANDBOX"),
]
BY_IDENTITY = ("application", "user", "subscription")


async def applied(world: Barred, count: int) -> None:
    """Wait until so many conditions are in force."""
    blocklist = world.gateway.running.blocklist
    with trio.fail_after(10):
        while sum(map(len, blocklist.current)) != count:
            await blocklist.changed.wait()


async def emptied(world: Barred) -> None:
    """Wait until the last connection has left."""
    with trio.fail_after(10):
        while len(world.gateway.running.sessions):
            await trio.testing.wait_all_tasks_blocked(0.005)


@pytest.mark.parametrize(("kind", "key", "other"), KINDS)
async def test_whom_the_settings_deny(
    kind: str, key: str, other: str, base: Path, nursery: trio.Nursery
) -> None:
    world = await start_barred(nursery, base, deny=[{kind: key}])
    with logged("trio_gw") as log:
        answer = await world.refused(token=world.token())
        assert (answer.status, answer.json()) == (403, BODY)
        assert "www-authenticate" in answer.headers
        assert f"{kind} {key} is denied" in await log.wait("answered 403 in phase authenticate")
    if kind in BY_IDENTITY:
        await world.admitted("open")
        # Who shows no credential is not told about conditions that name others.
        assert (await world.refused()).status == 401
    else:
        for topic, token in (("open", None), ("any", None), ("any", "no.good.token")):
            assert (await world.refused(topic, token)).json() == BODY, "before any credential"


@pytest.mark.parametrize(("kind", "key", "other"), KINDS)
async def test_whom_they_do_not_deny(
    kind: str, key: str, other: str, base: Path, nursery: trio.Nursery
) -> None:
    world = await start_barred(nursery, base, deny=[{kind: other}])
    await world.admitted(token=world.token())
    await world.admitted("open")


@pytest.mark.parametrize(("kind", "key", "other"), KINDS)
@pytest.mark.parametrize("tls", [False, True])
async def test_open_connections_are_ended_and_new_ones_come_back(
    kind: str, key: str, other: str, tls: bool, base: Path, nursery: trio.Nursery
) -> None:
    world = await start_barred(nursery, base)
    world.file.write_text(f"{kind}={other}\n")
    await applied(world, 1)
    token = world.token()
    async with world.connect(token=token, tls=tls) as client, world.connect("open") as anyone:
        await client.send("before")
        assert await client.recv() == "before"
        start = time.monotonic()
        world.file.write_text(f"{kind}={other}\n{kind}={key}  # an attack\n")
        if kind == "address":  # whichever of them `localhost` is
            world.file.write_text("address=0.0.0.0/0\naddress=::/0\n")
        assert await closed(client) == (1008, f"{kind} is blocked")
        assert time.monotonic() - start < 1.5
        if kind in BY_IDENTITY:
            await anyone.send("others do not notice")
            assert await anyone.recv() == "others do not notice"
        else:
            assert await closed(anyone) == (1008, f"{kind} is blocked")
    assert (await world.refused(token=token)).json() == BODY
    world.file.write_text(f"{kind}={other}\n")
    await applied(world, 1)
    await world.admitted(token=token)


async def test_addresses_of_either_version_of_ip(base: Path, nursery: trio.Nursery) -> None:
    world = await start_barred(nursery, base, deny=[{"address": "::1-::2"}])
    assert (await world.refused("open", host="::1")).json() == BODY
    await world.admitted("open")


async def test_an_inverted_range_leaves_who_is_in_it(base: Path, nursery: trio.Nursery) -> None:
    world = await start_barred(nursery, base, deny=[{"address": "127.0.0.0/8", "invert": True}])
    await world.admitted("open")
    assert (await world.refused("open", host="::1")).json() == BODY


async def test_the_address_is_the_one_that_trusted_proxies_tell(
    base: Path, nursery: trio.Nursery
) -> None:
    world = await start_barred(
        nursery,
        base,
        deny=[{"address": "203.0.113.0/24"}],
        trusted_proxies=["127.0.0.0/8"],
    )

    def told(address: str) -> bytes:
        return f"X-Forwarded-For: {address}\r\n".encode()

    for address in ("203.0.113.9", "::ffff:203.0.113.9", "198.51.100.1, 203.0.113.9"):
        assert (await world.refused("open", extra=told(address))).json() == BODY
    await world.admitted("open", extra=told("203.0.113.9, 198.51.100.1"))
    # Nobody trusts this one, so its word counts for nothing, either way.
    await world.admitted("open", host="::1", extra=told("203.0.113.9"))


async def test_the_proxys_own_address_is_not_the_clients(base: Path, nursery: trio.Nursery) -> None:
    world = await start_barred(
        nursery, base, deny=[{"address": "127.0.0.1"}], trusted_proxies=["127.0.0.1"]
    )
    await world.admitted("open", extra=b"X-Forwarded-For: 198.51.100.1\r\n")
    assert (await world.refused("open")).json() == BODY


async def test_what_is_no_api_is_not_concerned(base: Path, nursery: trio.Nursery) -> None:
    world = await start_barred(nursery, base, deny=[{"address": "0.0.0.0/0"}])
    assert (await world.gateway.get("/health")).status == 200
    assert (await world.gateway.get("/nothing/here")).status == 404


async def test_a_condition_that_comes_while_the_backend_is_asked(
    base: Path, nursery: trio.Nursery
) -> None:
    """Whoever has passed the check by then is ended right behind the 101."""
    asked, go = trio.Event(), trio.Event()

    async def slow(stream: trio.SocketStream) -> None:
        await read_head(stream)
        asked.set()
        await go.wait()
        await stream.send_all(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(KEY) + b"\r\n\r\n"
        )
        await trio.sleep_forever()

    backend = await start_raw(nursery, slow)
    world = await start_barred(nursery, base, f"ws://127.0.0.1:{backend.port}")
    stream = await world.stream("127.0.0.1")
    await stream.send_all(world.gateway.handshake("/c/1.0.0/any", world.token()))
    with trio.fail_after(10):
        await asked.wait()
        world.gateway.running.blocklist.publish("plane", Denials([condition("user", "alice")]))
        await trio.testing.wait_all_tasks_blocked(0.01)
        go.set()
        data = b""
        while b"user is blocked" not in data:
            more = await stream.receive_some()
            assert more, data
            data += more
    assert data.startswith(b"HTTP/1.1 101 ")
    assert b"\x03\xf0user is blocked" in data, "1008"


async def test_what_is_told(base: Path, nursery: trio.Nursery) -> None:
    events = base / "a.jsonl"
    world = await start_barred(nursery, base, analytics={"enabled": True, "file": "a.jsonl"})
    metrics = world.gateway.running.metrics
    assert metrics is not None
    token = world.token()
    async with world.connect(token=token) as client:
        world.file.write_text("user=alice\nuser=bob\naddress=203.0.113.0/24\n")
        assert await closed(client) == (1008, "user is blocked")
    assert (await world.refused(token=token)).status == 403
    await emptied(world)
    found = samples(text := metrics.exposition())
    api = {"api": "C", "version": "1.0.0"}
    assert sorted(found["trio_gw_denied_total"], key=str) == [
        ({**api, "level": "user", "action": "close"}, 1.0),
        ({**api, "level": "user", "action": "refused"}, 1.0),
    ]
    assert total(text, "trio_gw_handshakes_total", status="403", error="900805", **api) == 1
    assert total(text, "trio_gw_connections_closed_total", code="1008", by="gateway") == 1
    assert total(text, "trio_gw_deny_conditions", level="user") == 2
    assert total(text, "trio_gw_deny_conditions", level="address") == 1
    assert total(text, "trio_gw_deny_conditions", level="api") == 0
    with trio.fail_after(10):
        while not events.exists() or events.read_bytes().count(b'"fault"') < 2:
            await trio.testing.wait_all_tasks_blocked(0.005)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    for event in told:
        validate(event)
    faults = [event for event in told if event["eventType"] == "fault"]
    assert [event["properties"] for event in faults] == [
        {"level": "user", "action": "close"},
        {"level": "user", "action": "refused"},
    ]
    assert [event["proxyResponseCode"] for event in faults] == [429, 403]
    for event in faults:
        kind = event["errorType"], event["errorCode"], event["errorMessage"]
        assert kind == ("THROTTLED", 900805, "BLOCKED")
        assert event["applicationName"] == "App"
    (end,) = [event for event in told if event.get("apiMethod") == "CLOSE"]
    assert end["properties"]["closeReason"] == "user is blocked"


async def test_what_is_in_force_is_listed(base: Path, nursery: trio.Nursery) -> None:
    deny = [{"user": "mallory", "reason": "spam"}, {"address": "192.0.2.0/24", "invert": True}]
    world = await start_barred(nursery, base, deny=deny, admin=True)
    world.file.write_text("address=203.0.113.0/24  # a flood\n")
    await applied(world, 3)
    client = AdminClient(world.gateway)
    assert (await client.get("/admin/denials")).status == 401
    await client.login()
    told = (await client.get("/admin/denials")).json()
    spam, inverted, flood = (
        {"kind": kind, "names": names, "invert": invert, "reason": reason, "source": source}
        for kind, names, invert, reason, source in (
            ("user", "mallory@carbon.super", False, "spam", "settings"),
            ("address", "192.0.2.0/24", True, "", "settings"),
            ("address", "203.0.113.0/24", False, "a flood", "file"),
        )
    )
    assert told == {"total": 3, "conditions": [spam, inverted, flood]}
    for address, expected in (
        ("203.0.113.9", [inverted, flood]),
        ("::ffff:203.0.113.9", [inverted, flood]),
        ("2001:db8::1", [inverted]),
        ("192.0.2.1", []),
    ):
        told = (await client.get(f"/admin/denials?address={address}")).json()
        assert told == {"total": len(expected), "conditions": expected}
    told = (await client.get("/admin/denials?limit=1")).json()
    assert told == {"total": 3, "conditions": [spam]}
    assert (await client.get("/admin/denials?address=localhost")).status == 422
    assert (await client.get("/admin/denials?limit=0")).status == 422


async def test_the_access_log_of_the_reference(base: Path, nursery: trio.Nursery) -> None:
    deny = [{"address": "127.0.0.1"}]
    world = await start_barred(nursery, base, deny=deny, log={"access": "reference"})
    with logged("trio_gw.access") as log:
        await world.refused("open")
        line = await log.wait("/c/1.0.0/open")
    assert "'GET - /c/1.0.0/open HTTP/1.1' 403 UAEX 0 0 " in line

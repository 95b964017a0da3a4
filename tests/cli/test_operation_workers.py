"""What an operator sees of a gateway with three workers: every worker gives the same answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from support.admin_workers import CLIENTS, AdminWorkers, connected, start_admin_workers
from support.commands import gw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.commands import Serving

TRIES = 4  # each on a connection of its own, so several workers answer


async def until(group: AdminWorkers, path: str, true: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as wished."""
    with trio.fail_after(30):
        while not true(found := await group.get(path)):
            pass
    return found


async def test_operation_of_all_workers(
    base: Path, running: list[Serving], nursery: trio.Nursery
) -> None:
    group = await start_admin_workers(base, running, nursery)
    async with connected(group) as clients:
        # History: the sum of all workers, whoever answers.
        def sums(found: Any) -> list[float]:
            columns = found["series"]["columns"] if found["series"] else {"messages_in": []}
            return [sum(filter(None, columns["messages_in"]))]

        found = await until(group, "/admin/history", lambda found: sums(found) == [CLIENTS])
        assert found["missing"] == []
        for _ in range(TRIES):
            found = await group.get("/admin/history?span=5m")
            assert sums(found) == [CLIENTS]
            assert found["series"]["columns"]["open"][-1] == CLIENTS

        # Closing many: counted first, and only if the number is as expected.
        close = {"match": "path:/one/1.0.0/t/c1", "dry_run": True}
        answer = await group.ask("/admin/connections/close", "POST", close)
        assert (answer.status, answer.json()) == (200, {"matching": 3})
        close = {"match": "path:/one/1.0.0/t/c1", "expect": 2, "code": 4001, "reason": "enough"}
        answer = await group.ask("/admin/connections/close", "POST", close)
        assert answer.status == 409
        assert "3 connections match now, not 2" in answer.json()["message"]
        answer = await group.ask("/admin/connections/close", "POST", {**close, "expect": 3})
        assert (answer.status, answer.json()) == (200, {"closed": 3})
        for number in (1, 10, 11):
            await clients[number].wait_closed()
            assert clients[number].close_code == 4001
        await clients[2].send("still open")
        assert await clients[2].recv() == "still open"

        # Endings: with worker, code, side and reason.
        found = await until(group, "/admin/endings", lambda found: len(found["endings"]) == 3)
        for _ in range(TRIES):
            rows = (await group.get("/admin/endings"))["endings"]
            assert rows == found["endings"]
        assert {row["reason"] for row in rows} == {"enough"}
        assert {(row["by"], row["code"], row["phase"]) for row in rows} == {
            ("gateway", 4001, "relay")
        }
        assert {row["request"] for row in rows} == {
            f"GET /one/1.0.0/t/c{number}" for number in (1, 10, 11)
        }

        # Backends, log, deny conditions.
        (backend,) = (await group.get("/admin/backends"))["backends"]
        assert (backend["healthy"], backend["apis"]) == (True, ["One:1.0.0"])
        assert backend["up"] == [1, 2, 3]
        lines = (await group.get("/admin/log"))["lines"]
        assert {line["worker"] for line in lines} == {1, 2, 3}
        denied = {"kind": "address", "key": "127.0.0.1", "reason": "from a row"}
        answer = await group.ask("/admin/denials", "POST", denied)
        assert (answer.status, answer.json()) == (201, {"in_force": True})
        for client in clients:
            await client.wait_closed()
            assert client.close_code in (4001, 1008)
        path = base / "certs" / "denied.txt"
        assert path.read_text() == "address=127.0.0.1  # from a row\n"
        answer = await group.ask("/admin/denials?kind=address&key=127.0.0.1", "DELETE")
        assert (answer.status, answer.json()) == (200, {"in_force": False})
        assert path.read_text() == ""


async def test_the_commands_of_an_operator(
    base: Path, running: list[Serving], nursery: trio.Nursery
) -> None:
    group = await start_admin_workers(base, running, nursery)

    async def run(*arguments: str) -> tuple[int, str]:
        url = f"https://localhost:{group.admin_port}"
        more = ("--url", url, "--ca", "certs/mg.pem", "--user", "admin")
        call = partial(gw, base, *arguments, *more, GW_PASSWORD="admin")
        done = await trio.to_thread.run_sync(call)
        return done.returncode, done.stdout + done.stderr

    async with connected(group) as clients:
        code, text = await run("connections", "--match", "path:/one/1.0.0/t/c1")
        assert code == 0
        assert "GET /one/1.0.0/t/c10" in text
        assert f"3 shown, 3 match, {CLIENTS} are open" in text
        assert await run("connections", "close") == (
            2,
            "trio-gw connections close: --match says which; nothing was closed\n",
        )
        close = ("connections", "close", "--match", "path:/one/1.0.0/t/c1")
        code, text = await run(*close)
        assert (code, text) == (
            1,
            "trio-gw connections close: 3 connections match; close them with --expect 3\n",
        )
        code, text = await run(*close, "--expect", "2")
        assert code == 1
        assert "3 connections match now, not 2; nothing was closed" in text
        code, text = await run(*close, "--expect", "3", "--code", "4001")
        assert (code, text) == (0, "3 connections are closed\n")
        code, text = await run("deny", "address=127.0.0.1", "--reason", "a flood")
        assert (code, text) == (0, "address=127.0.0.1 is denied\n")
        for client in clients:
            await client.wait_closed()
        code, text = await run("deny")
        assert "127.0.0.1  a flood  file" in text
        code, text = await run("deny", "address=127.0.0.1", "--remove")
        assert (code, text) == (0, "address=127.0.0.1 is no longer denied\n")
        code, text = await run("deny", "address=127.0.0.1", "--remove")
        assert (code, "no such condition" in text) == (1, True)
        assert (await run("deny", "planet=x"))[0] == 2

"""SIGHUP: what has changed in the settings is taken over, or named."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from support.commands import Serving, start
from support.secrets import secret
from trio_gw.cli.reload import RunningSettings, watch
from trio_gw.config.settings_file import load
from trio_gw.supervision.background import BackgroundTasks

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.config.settings import Settings

PASSWORD = secret("thaiNgoh5ooy7eeB")


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_needs_a_restart_is_named_once(
    workers: int, base: Path, running: list[Serving]
) -> None:
    file = base / "gateway.toml"
    file.write_text(f"workers = {workers}\n")
    serving = await start(base, "run")
    running.append(serving)
    await serving.read_until("err", "trio_gw: ready" if workers > 1 else "https://[", workers)
    file.write_text(
        f"""workers = {workers + 1}
[log]
level = "debug"
format = "json"  # the environment has the last word
[timeouts]
idle = 5
[tiers.Small]
events = 3
per = "1m"
[[admin.users]]
username = "admin"
password = "{PASSWORD}"
[git]
url = "https://git.invalid/apis"
"""
    )
    serving.process.send_signal(signal.SIGHUP)
    said = await serving.read_until("err", "log level is debug", workers)
    line = said[said.index("needs a restart: ") :].partition("\n")[0]
    keys = "workers, timeouts.idle, admin.users[0].password, git.url, tiers.Small"
    assert line == f"needs a restart: {keys}"
    file.write_text(f'workers = {workers}\n[log]\nlevel = "info"\n')
    serving.process.send_signal(signal.SIGHUP)
    await serving.read_until("err", "log level is info", workers)
    serving.process.terminate()
    assert (await serving.rest()).count("needs a restart") == 1


async def test_what_was_taken_away_at_the_start_is_no_change(
    base: Path, running: list[Serving]
) -> None:
    """`--to` turns the admin API off, whatever the settings say."""
    serving = await start(base, "run", "--to", "ws://localhost:1")
    running.append(serving)
    await serving.read_until("out", "is ready")
    serving.process.send_signal(signal.SIGHUP)
    await serving.read_until("err", "log level is info")
    serving.process.terminate()
    assert "needs a restart" not in await serving.rest()


async def test_settings_that_cannot_be_used_change_nothing(
    base: Path, running: list[Serving]
) -> None:
    file = base / "gateway.toml"
    file.write_text("")
    serving = await start(base, "run")
    running.append(serving)
    await serving.read_until("err", "listening on https://[")
    file.write_text('[log]\nlevel = "debug"\n[timeouts]\nidel = 5\n')
    serving.process.send_signal(signal.SIGHUP)
    said = await serving.read_until("err", "the settings do not change")
    assert "gateway.toml:4: unknown key timeouts.idel; did you mean timeouts.idle?" in said
    assert "log level is" not in said


async def test_one_that_came_while_nobody_could_take_it_is_taken(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """As it comes to a worker that has just been forked, with the settings of before."""
    file = tmp_path / "gateway.toml"
    file.write_text("")
    current = RunningSettings(load(file, {}), lambda: load(file, {}))
    taken = trio.Event()

    async def take(settings: Settings) -> None:
        assert settings.deny[0].user == "mallory"
        taken.set()

    before = signal.signal(signal.SIGHUP, lambda signum, frame: None)
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
    try:
        file.write_text('[[deny]]\nuser = "mallory"\n')
        signal.raise_signal(signal.SIGHUP)
        await nursery.start(
            partial(watch, current, take, background=BackgroundTasks(), log_changes=False)
        )
        with trio.fail_after(5):
            await taken.wait()
        nursery.cancel_scope.cancel()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)
        signal.signal(signal.SIGHUP, before)

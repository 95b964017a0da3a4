"""Fixtures for tests that talk to a running gateway, and the search for secrets at the end."""

from __future__ import annotations

import datetime
import functools
import logging
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization

from support.browser import Browser
from support.rabbitmq import RabbitMQ
from support.secrets import BOOK, Recorder
from trio_gw.guard.certificates import ensure_certificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator
    from pathlib import Path

    from support.commands import Serving

# Folders and files with long tests that would come last; see `pytest_collection_modifyitems`.
LONGEST = {"peers", "supervision", "testing", "workers", "test_release.py", "test_secrets.py"}
ID = 24  # octets of a parameter that may stand in the name of a test

_RECORDER = Recorder()
_FOUND: list[str] = []  # leaks, by the end of the run


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests that take as long as they are told be told."""
    parser.addoption("--seconds", type=float, default=4.0, help="of tests that run for a time")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that no process works on one alone at the end of a run."""
    items.sort(key=lambda item: LONGEST.isdisjoint(item.path.parts[-2:]))


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """For how long a test that runs for a time is to do so."""
    found: float = request.config.getoption("--seconds")
    return found


@pytest.fixture(autouse=True, scope="session")
def _keys_are_checked_once() -> Iterator[None]:
    """Remember private keys by their PEM text: to check an RSA key takes 0.15 s of each start."""
    with pytest.MonkeyPatch.context() as patch:
        remembered = functools.cache(serialization.load_pem_private_key)
        patch.setattr(serialization, "load_pem_private_key", remembered)
        yield


@pytest.fixture(autouse=True)
def _recorded() -> Iterator[None]:
    """Keep every log record of this test, DEBUG included, for the search at the end."""
    logger = logging.getLogger("trio_gw")
    level = logger.level
    logger.addHandler(_RECORDER)
    logger.setLevel(logging.DEBUG)
    yield
    logger.removeHandler(_RECORDER)
    logger.setLevel(level)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name long octets by their length: those of a zip file are others each time."""
    del config
    return f"{argname}{len(val)}" if isinstance(val, bytes) and len(val) > ID else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write what was captured so that a worker of pytest-xdist can send it: as UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over what a worker of pytest-xdist found in what its gateways wrote."""
    del error
    _FOUND.extend(getattr(node, "workeroutput", {}).get("leaks", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if anything that the gateways wrote holds a secret of the suite.

    With pytest-xdist each worker searches what its own tests made, and the controller fails.
    """
    _FOUND.extend(BOOK.leaks())
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["leaks"] = _FOUND
    elif _FOUND:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where."""
    if leaks := _FOUND:
        terminalreporter.section("secrets in what the gateway wrote", red=True, bold=True)
        for leak in leaks:
            terminalreporter.line(leak)


@pytest.fixture(scope="session")
def own_certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gateway's self-signed certificate, made once: an RSA key takes a while."""
    folder = tmp_path_factory.mktemp("certs")
    made = ensure_certificate(
        folder / "mg.pem", folder / "mg.key", datetime.datetime.now(datetime.UTC)
    )
    assert made
    return folder


@pytest.fixture
def base(tmp_path: Path, own_certs: Path) -> Path:
    """A folder for one gateway: `apis/` empty, `certs/` with its own certificate."""
    (tmp_path / "apis").mkdir()
    shutil.copytree(own_certs, tmp_path / "certs")
    return tmp_path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests that need one."""
    with Browser() as started:
        yield started


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """One broker for all tests that need one; they leave it running."""
    broker = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@pytest.fixture
async def running() -> AsyncIterator[list[Serving]]:
    """Processes put here are gone after the test."""
    started: list[Serving] = []
    yield started
    for serving in started:
        if serving.process.poll() is None:
            serving.process.kill()
        await serving.process.wait()
        for pipe in (serving.process.stdout, serving.process.stderr):
            assert pipe is not None
            await pipe.aclose()

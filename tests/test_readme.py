"""The README's examples do what it shows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from support import settings_page
from trio_gw.__main__ import main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def session(command: str) -> tuple[list[str], str]:
    """Find the arguments and the output of a command that the README shows."""
    (shown,) = [
        text for kind, text in BLOCKS if kind == "console" and text.startswith(f"$ {command}")
    ]
    line, _, output = shown.partition("\n")
    return [word.strip("'") for word in line.split()[2:]], output


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with the sample API and the project that the README writes by hand."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "apis", tmp_path / "apis")
    for kind, text in BLOCKS:
        if kind == "yaml":
            path = tmp_path / text.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return tmp_path / "apis" / "Chat"


def test_init_makes_what_is_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, output = session("trio-gw init")
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(output)


@pytest.mark.usefixtures("project")
def test_the_project_by_hand_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--strict", "apis"]) == 0
    assert "wss://chat.internal:8443/v2/rooms?id={room}" in capsys.readouterr().out


def test_check_shows_the_fault(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    descriptor = project / "api.yaml"
    descriptor.write_text(descriptor.read_text().replace("context: /chat", "context: chat"))
    arguments, output = session("trio-gw check")
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert [line.rstrip() for line in (shown.out + shown.err).splitlines()] == output.splitlines()


def test_the_ten_settings_exist() -> None:
    table = TEXT.partition("## The ten most important settings")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \| (`.*?`|.*?) \|", table, re.MULTILINE)
    assert len(rows) == 10
    fields = settings_page.keys()
    for first, defaults in rows:
        named, values = re.findall(r"`(.*?)`", first), re.findall(r"`(.*?)`", defaults)
        for key, value in zip(named, values, strict=False):
            if key in fields and not key.startswith("tls."):  # those follow `certs`
                assert json.dumps(fields[key].default) == value
        for key in named:
            plain = key.removeprefix("[[").removesuffix("]]")
            assert key in fields or any(one.startswith(f"{plain}[].") for one in fields), key

"""A command imports only what it needs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

APIS = Path(__file__).parent.parent.parent / "apis"

# Event loop, HTTP client, cryptography, YAML, the admin API: each costs a tenth of a second.
HEAVY = {
    *("cryptography", "httpx2", "msgspec", "prometheus_client", "starlette", "trio"),
    *("pamqp", "trio_websocket", "yaml"),
}
# Of the portal: imported with its first request.
PORTAL = {"jinja2", "markdown_it", "nh3"}
HEAVY |= PORTAL


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("--help", set()),
        ("version", set()),
        ("check", {"msgspec", "yaml"}),
        ("routes", {"msgspec", "yaml"}),
        ("hash-password --help", {"msgspec"}),
        ("tiers", {"msgspec"}),
        ("convert --help", {"msgspec"}),
        ("token --help", {"cryptography", "msgspec", "trio"}),
        ("init --help", {"cryptography", "msgspec", "yaml"}),
        ("apis --help", {"httpx2", "msgspec", "trio"}),
        ("applications --help", {"httpx2", "msgspec", "trio"}),
        ("pull --help", {"msgspec", "trio", "yaml"}),
        ("run --help", HEAVY - PORTAL - {"httpx2", "pamqp", "trio_websocket"}),
    ],
)
def test_a_command_imports_what_it_needs(tmp_path: Path, command: str, needed: set[str]) -> None:
    shutil.copytree(APIS, tmp_path / "apis")
    code = (
        "import json, sys\n"
        "from trio_gw.__main__ import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=True,
    )
    loaded = HEAVY.intersection(json.loads(done.stderr.splitlines()[-1]))
    assert loaded <= needed

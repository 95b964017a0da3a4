"""A command imports what it needs: what the others need costs it nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Event loop, HTTP client, cryptography, YAML, the admin API: each costs a tenth of a second.
HEAVY = {"cryptography", "httpx2", "msgspec", "prometheus_client", "starlette", "trio", "yaml"}


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("--help", set()),
        ("version", set()),
        ("hash-password --help", {"msgspec"}),
        ("tiers", {"msgspec"}),
        ("convert --help", {"msgspec"}),
        ("token --help", {"cryptography", "msgspec", "trio"}),
        ("init --help", {"cryptography", "msgspec", "yaml"}),
        ("apis --help", {"httpx2", "msgspec", "trio"}),
    ],
)
def test_a_command_imports_what_it_needs(command: str, needed: set[str]) -> None:
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
        check=True,
    )
    loaded = HEAVY.intersection(json.loads(done.stderr.splitlines()[-1]))
    assert loaded <= needed

"""Differences between revisions, and that they show no password."""

from __future__ import annotations

from trio_gw.portal.revision_diff import MASK, compare, masked
from trio_gw.portal.revisions import with_state

API = """\
# mine
data:
  name: Chat   # of all
  lifeCycleStatus: PUBLISHED
  endpointConfig:
    endpoint_security:
      production: {enabled: true, username: u, password: hunter2}
"""


def test_the_lines_of_changed_files() -> None:
    old = {"a": b"1\n2\n3\n", "b": b"x", "c": b"same", "d": b"\xff"}
    new = {"a": b"1\n2\n4\n", "c": b"same", "d": b"\xfe", "e": b"new"}
    a, b, d, e = compare(old, new)
    assert (a.path, a.change, a.lines) == (
        "a",
        "changed",
        ("@@ -1,3 +1,3 @@", " 1", " 2", "-3", "+4"),
    )
    assert (b.path, b.change, b.lines[-1]) == ("b", "removed", "-x")
    assert (d.note, d.lines) == ("not a text, or too large to compare", ())
    assert (e.change, e.lines[-1]) == ("added", "+new")


def test_no_password_is_shown() -> None:
    written = (
        "password: hunter2",
        "  'password' : hunter2",
        "- password: hunter2 # hunter2",
        "{username: u, password: hunter2}",
        '{"password": "hun\\"ter2", "x": 1}',
        'client_secret: "hunter2"',
        "password: |\n  hunter2\n  hunter2\nnext: 1",
        "password: >-\n\n    hunter2\n",
    )
    for text in written:
        assert "unter2" not in masked(text), text
        assert MASK in masked(text)
    assert masked("password: |\n  a\nnext: 1").endswith("\nnext: 1")
    assert masked("passwords: 3\nname: x") == "passwords: 3\nname: x"
    (one,) = compare({"api.yaml": API.encode()}, {"api.yaml": API.replace("hunter2", "x").encode()})
    assert one.lines == ()
    assert one.note == "only hidden values or the ends of lines differ"


def test_the_state_in_a_download() -> None:
    written = with_state("api.yaml", API.encode(), "BLOCKED").decode()
    assert written == API.replace("lifeCycleStatus: PUBLISHED", "lifeCycleStatus: BLOCKED")
    without = API.replace("  lifeCycleStatus: PUBLISHED\n", "")
    assert (
        "lifeCycleStatus: BLOCKED" in with_state("x/api.yaml", without.encode(), "BLOCKED").decode()
    )
    assert with_state("Definitions/asyncapi.yaml", b"data: {}", "BLOCKED") == b"data: {}"
    assert with_state("api.yaml", b"\xff", "BLOCKED") == b"\xff"

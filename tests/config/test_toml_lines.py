"""The line numbers of keys in a TOML text."""

from __future__ import annotations

from trio_gw.config.toml_lines import key_lines


def test_lines_are_found_through_every_notation() -> None:
    text = '''\
a = 1
b.c = 2
"quoted key" = 3
text = """
a = 5
[no.table]
"""
[t]
x = 1
 [ t . u ]
y = 1
[[l]]
z = 1
[[l]]
z = 2
[[l.m]]
k = 1
[l.n]
k = 2
'''
    assert key_lines(text) == {
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 2,
        ("quoted key",): 3,
        ("text",): 4,
        ("t",): 8,
        ("t", "x"): 9,
        ("t", "u"): 10,
        ("t", "u", "y"): 11,
        ("l",): 12,
        ("l", 0): 12,
        ("l", 0, "z"): 13,
        ("l", 1): 14,
        ("l", 1, "z"): 15,
        ("l", 1, "m"): 16,
        ("l", 1, "m", 0): 16,
        ("l", 1, "m", 0, "k"): 17,
        ("l", 1, "n"): 18,
        ("l", 1, "n", "k"): 19,
    }

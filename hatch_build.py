"""Compile the relay's hot path at installation, if there is a C compiler.

hatchling runs this for wheels and for editable installs. Nothing here fails an installation:
without compiled modules the gateway runs the same sources in Python. Cython is required only where
there is a compiler.

For tests (`scripts/checked`), `TRIO_GW_CHECKED=bounds` compiles modules that check bounds, and
`TRIO_GW_CHECKED=address` modules for AddressSanitizer.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SECONDS = 300
# Exactly the version with which the compiled modules are tested: it is part of what runs.
CYTHON = "Cython==3.3.1"
DIRECTIVES = {
    "annotation_typing": False,  # the .pxd files declare the types
    "boundscheck": False,
    "cdivision": True,
    "initializedcheck": False,
    "language_level": 3,
    "wraparound": False,
}
CHECKED = "TRIO_GW_CHECKED"
CHECKS = {"boundscheck": True, "initializedcheck": True, "nonecheck": True, "wraparound": True}
FLAGS = {
    "bounds": ["-O1"],
    "address": ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address"],
}


def _load() -> Any:
    """Load `trio_gw/compiled.py` alone: the package's dependencies are not installed here."""
    spec = importlib.util.spec_from_file_location("compiled", ROOT / "trio_gw" / "compiled.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compiled = _load()


def _compiler() -> list[str] | None:
    """Find a C compiler that can build for this Python."""
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if sys.implementation.name != "cpython" or not compiled.wanted() or not headers.is_file():
        return None
    for command in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    return None


def _compile(compiler: list[str], folder: Path) -> dict[str, Path]:
    """Compile all modules in `folder`; returns the files by their places in the package."""
    from Cython.Compiler.Main import CompilationOptions, compile_single

    kind = os.environ.get(CHECKED, "")
    checks = CHECKS if kind == "bounds" else {}
    flags = FLAGS.get(kind, ["-O2"])
    made, commands = {}, []
    for name, place in compiled.files().items():
        source = ROOT / f"{name.replace('.', '/')}.py"
        c_file = folder / f"{source.stem}.c"
        options = CompilationOptions(
            compiler_directives=DIRECTIVES | checks,
            output_file=str(c_file),
            include_path=[str(ROOT)],
        )
        result = compile_single(str(source), options, full_module_name=name)
        if result.num_errors:
            raise RuntimeError(f"{source.name} does not compile")
        made[place] = folder / place.name
        command = [*compiler, "-shared", "-fPIC", *flags, "-fno-strict-aliasing", "-w"]
        include = sysconfig.get_path("include")
        # Not the names of this machine's folders: the same sources give the same bytes.
        command += [f"-ffile-prefix-map={folder}=.", f"-ffile-prefix-map={include}=include"]
        command += [f"-I{include}", str(c_file), "-o", str(made[place])]
        commands.append(command)
    run = partial(subprocess.run, check=True, capture_output=True, timeout=SECONDS)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, commands))
    return {str(place.relative_to(ROOT)): path for place, path in made.items()}


class CompileRelay(BuildHookInterface[Any]):
    """hatchling finds this hook by its base class."""

    def dependencies(self) -> list[str]:
        """Require Cython if there is a compiler."""
        return [CYTHON] if _compiler() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the extensions into the wheel, or next to the sources if editable."""
        if self.target_name != "wheel" or (compiler := _compiler()) is None:
            self.app.display_info(
                "the relay is not compiled: no C compiler, or TRIO_GW_PURE is set"
            )
            return
        with tempfile.TemporaryDirectory() as folder:
            try:
                made = _compile(compiler, Path(folder))
            except Exception as error:
                detail = getattr(error, "stderr", b"") or b""
                self.app.display_warning(f"the relay is not compiled: {error} {detail.decode()}")
                return
            target = ROOT / "trio_gw" / "_compiled"
            target.mkdir(exist_ok=True)
            for old in target.glob(f"*{compiled.EXTENSION_SUFFIXES[0]}"):
                old.unlink()  # from older sources; keep those of other Pythons
            for place, path in made.items():
                # A gateway may start meanwhile: it must not find half a file.
                half = ROOT / f"{place}.new"
                shutil.copy(path, half)
                half.replace(ROOT / place)
        if version != "editable":
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["force_include"].update({str(ROOT / place): place for place in made})

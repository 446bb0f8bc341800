"""Print, for a shell to source, the environment in which cargo's tests find libpython.

The crate's tests run an interpreter inside a Rust program (pyo3's `auto-initialize`), so they link
libpython and look for it again when they start. Run by the virtual environment's own Python:

    . .make/cargo-env        # made by `make .make/cargo-env`; then any cargo command by hand

Three kinds of Python are met:

- shared, outside the loader's path (pyenv --enable-shared, uv, hosted runners): LD_LIBRARY_PATH.
- shared, a distribution's: nothing to do, but Debian puts the file that the linker needs into a -dev package.
- static only (pyenv's default): pyo3 refuses it, so it is told to link the archive as if it were shared, and
  the symbols are exported for the standard library's extension modules. The archive's code may go into
  programs only, not into the cdylib that doc tests and integration tests would build first: unit tests alone
  are run. Extension modules built for pip are not concerned: they never link libpython.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import sysconfig
from pathlib import Path


def main(scratch: Path) -> int:
    """Print the exports, or say what is missing and fail."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    bin_dir = Path(sys.executable).parent  # not resolved: the virtual environment's
    bits = 64 if sys.maxsize > 2**32 else 32
    env = {
        "PYO3_PYTHON": sys.executable,
        # pyo3 reads the interpreter again when this changes: another Python in the same .venv.
        "PYO3_ENVIRONMENT_SIGNATURE": f"{sys.implementation.name}-{platform.python_version()}-{bits}bit",
        "VIRTUAL_ENV": str(bin_dir.parent),
    }

    lib_dir = Path(str(sysconfig.get_config_var("LIBDIR")))
    library = str(sysconfig.get_config_var("LDLIBRARY"))
    framework = bool(sysconfig.get_config_var("PYTHONFRAMEWORK"))
    if framework:
        prefix = str(sysconfig.get_config_var("PYTHONFRAMEWORKPREFIX"))
        env["DYLD_FALLBACK_FRAMEWORK_PATH"] = prefix
    elif sysconfig.get_config_var("Py_ENABLE_SHARED"):
        if not (lib_dir / library).exists():
            return fail(
                f"cargo's tests link {library}, which is not in {lib_dir}.\n"
                f"On Debian or Ubuntu: apt-get install libpython{version}-dev\n"
                f"On Fedora: dnf install python{version}-devel. "
                "Or give make another interpreter: make PYTHON=/path/to/python3"
            )
        name = "DYLD_FALLBACK_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
        if lib_dir.parts[:3] not in {("/", "usr", "lib"), ("/", "usr", "lib64")}:
            env[name] = os.pathsep.join(filter(None, [str(lib_dir), os.environ.get(name)]))
    else:
        archive = str(sysconfig.get_config_var("LIBRARY"))
        places = [Path(str(sysconfig.get_config_var("LIBPL"))), lib_dir]
        found = next((place for place in places if (place / archive).exists()), None)
        if found is None:
            return fail(
                f"cargo's tests link libpython{version}, and the Python in {sys.base_prefix} "
                f"has it neither as a shared library nor as {archive}.\n"
                "Give make another interpreter: make PYTHON=/path/to/python3"
            )
        config = scratch / "pyo3-config.txt"
        write(config, static_config(found, version, bits))
        env["PYO3_CONFIG_FILE"] = str(config)
        env["RUSTFLAGS"] = " ".join(filter(None, [os.environ.get("RUSTFLAGS"), "-C link-arg=-rdynamic"]))
        env["CARGO_TEST_SCOPE"] = "--lib"

    print("# made by tools/cargo_env.py")
    print(f"export PATH={shlex.quote(str(bin_dir))}:$PATH")
    for name, value in env.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def static_config(lib_dir: Path, version: str, bits: int) -> str:
    """pyo3's configuration for a libpython that exists as an archive only."""
    words = " ".join(str(sysconfig.get_config_var(name) or "") for name in ("LIBS", "SYSLIBS", "MODLIBS"))
    libs = dict.fromkeys(word[2:] for word in words.split() if word.startswith("-l"))
    lines = [
        "implementation=CPython",
        f"version={version}",
        "shared=true",
        f"lib_name=python{sysconfig.get_config_var('LDVERSION')}",
        f"lib_dir={lib_dir}",
        f"executable={sys.executable}",
        f"pointer_width={bits}",
        "build_flags=" + ("Py_GIL_DISABLED" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""),
        "suppress_build_script_link_lines=false",
        *(f"extra_build_script_line=cargo:rustc-link-lib={lib}" for lib in libs),
    ]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Write only what changed: cargo builds pyo3 again when the file is newer."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def fail(message: str) -> int:
    """Say what is missing."""
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))

"""`make env`: the folder .venv, made again if it is of another checkout, another Python or other locked versions.

A copied checkout brings the .venv of the original, which loads the original's package. So `.venv/.complete` names what
the folder was made for. This file runs before anything is installed, with nothing but Python's standard library.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ("requirements.lock", "pyproject.toml")
"""Files that say what is installed."""

WHICH_PYTHON = "import os, sys; print(os.path.realpath(sys.executable), sys.version.split()[0])"


def which_python(python: str) -> str:
    """The file and the version of a Python, behind the links of an environment; empty if it does not run."""
    try:
        return subprocess.run([python, "-ISc", WHICH_PYTHON], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def made_for(python: str, root: Path = ROOT) -> str:
    """What `.venv/.complete` says of an environment for this checkout."""
    content = b"".join((root / name).read_bytes() for name in LOCKED)
    return f"checkout {root}\nPython {python}\n{' and '.join(LOCKED)} of SHA-256 {sha256(content).hexdigest()}\n"


def stale(python: str = "", root: Path = ROOT) -> str:
    """Why .venv must be made (again), in a few words; empty if it is complete.

    `python` is what `which_python` says of the Python that was asked for; by default that of .venv itself is right.
    """
    stamp = root / ".venv" / ".complete"
    if not stamp.exists():
        return "it is missing or incomplete"
    found = stamp.read_text(encoding="utf-8").splitlines()
    now = made_for(python or which_python(str(root / ".venv" / "bin" / "python")), root).splitlines()
    for was, line in zip(found + [""] * len(now), now):  # noqa: B905 (strict= is newer than some Pythons that come here)
        if was != line:
            return f"it was made for {was or 'something else'}, not for {line}"
    return ""


def make(root: Path = ROOT) -> None:
    """Make .venv with the Python that runs this."""
    venv = root / ".venv"
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    pip = [python, "-Im", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(root / "requirements.lock")], check=True)
    subprocess.run([*pip, "--no-deps", "-e", str(root)], check=True)
    (venv / ".complete").write_text(made_for(which_python(python), root), encoding="utf-8")


def main() -> None:
    """`python compendium/environment.py [--this-python]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--this-python", action="store_true", help="also make it again if it is of another Python")
    wanted = which_python(sys.executable) if parser.parse_args().this_python else ""
    with (ROOT / "requirements.lock").open() as lock:
        if stale(wanted):
            fcntl.flock(lock, fcntl.LOCK_EX)  # another `make` may be at it
        why = stale(wanted)
        if not why:
            return
        if sys.version_info < (3, 11):  # noqa: UP036 (this is any Python that is there)
            sys.exit("Python 3.11 or newer is needed; choose one with make PYTHON=python3.12 ...")
        if not os.access(ROOT, os.W_OK):
            sys.exit(f"{ROOT}/.venv: {why}, and it cannot be made, because the checkout is read-only")
        print(f"making .venv, because {why}: about a minute", flush=True)
        try:
            make()
        except subprocess.CalledProcessError as error:
            sys.exit(f".venv could not be made: {' '.join(error.cmd[:4])} failed")
        except OSError as error:
            sys.exit(f".venv could not be made: {error}")
        except KeyboardInterrupt:
            sys.exit("stopped; the next make starts .venv again")


if __name__ == "__main__":
    main()

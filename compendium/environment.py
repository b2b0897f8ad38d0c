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
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ("requirements.lock", "pyproject.toml")
"""Files that say what is installed."""

UV = "uv==0.13.9"
"""Installs the same files as pip in a third of the time."""

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
    for was, line in zip_longest(found[: len(now)], now, fillvalue=""):
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
    with TemporaryDirectory() as folder:
        uv = shutil.which("uv") or fetch_uv(pip, folder)
        faster = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        for installer in [faster, pip] if uv else [pip]:
            try:
                _run(*installer, "-r", str(root / "requirements.lock"))
                # setuptools, which builds this package, is in the lock
                _run(*installer, "--no-build-isolation", "--no-deps", "-e", str(root))
                break
            except subprocess.CalledProcessError:
                if installer is pip:
                    raise
                print("uv failed; pip follows", flush=True)  # such as with a package index that only pip knows
    (venv / ".complete").write_text(made_for(which_python(python), root), encoding="utf-8")


def _run(*command: str) -> None:
    """Run a command; what it prints is only kept for the error."""
    subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def fetch_uv(pip: list[str], folder: str) -> str:
    """Put uv into a folder, which takes two seconds; empty if PyPI has none for this machine."""
    done = subprocess.run([*pip, "--target", folder, UV], stderr=subprocess.DEVNULL)
    return str(Path(folder) / "bin" / "uv") if done.returncode == 0 else ""


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
        if not os.access(ROOT, os.W_OK):
            sys.exit(f"{ROOT}/.venv: {why}, and it cannot be made, because the checkout is read-only")
        print(f"making .venv, because {why}: up to a minute", flush=True)
        try:
            make()
        except subprocess.CalledProcessError as error:
            errors = [line for line in (error.stdout or "").splitlines() if line.startswith("ERROR: ")]
            failed = f"{' '.join(error.cmd[:4])} failed"
            sys.exit(f".venv could not be made: {errors[-1][7:] + '; is there a network?' if errors else failed}")
        except OSError as error:
            sys.exit(f".venv could not be made: {error}")
        except KeyboardInterrupt:
            sys.exit("stopped; the next make starts .venv again")


if __name__ == "__main__":
    main()

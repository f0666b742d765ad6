"""`make lint-openapi`: checks the committed OpenAPI page with Spectral, which comes from npm by a lock of its own."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.checks.kubernetes import ROOT

PAGE = "docs/openapi/front.json"
RULES = "deploy/checks/spectral.yaml"
LOCKED = ROOT / "deploy" / "checks" / "npm"
FOLDER = ROOT / ".npm-tools"
SHOWN_LINES = 15


class CheckError(Exception):
    """The page can't be checked; the message says what to do."""


def set_up() -> Path:
    """Spectral's command, installed if need be. Raises `CheckError`."""
    if shutil.which("npm") is None:
        raise CheckError("Spectral needs npm: install Node.js 20 or newer.")
    stamp = FOLDER / "gristmill.stamp"
    digest = hashlib.sha256((LOCKED / "package-lock.json").read_bytes()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == digest):
        print("Setting up .npm-tools (once; about 20 s)", file=sys.stderr, flush=True)
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(LOCKED, FOLDER)
        # No package's own scripts: none is needed, and any could do anything.
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        installed = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
        if installed.returncode:
            words = "\n".join(installed.stderr.splitlines()[-SHOWN_LINES:])
            raise CheckError(f"npm can't install Spectral:\n{words}")
        stamp.write_text(digest)
    return FOLDER / "node_modules" / ".bin" / "spectral"


def main() -> int:
    try:
        spectral = set_up()
    except CheckError as error:
        print(error, file=sys.stderr)
        return 1
    command = [str(spectral), "lint", PAGE, "--ruleset", RULES, "--fail-severity", "warn", "--quiet"]
    found = subprocess.run(command, cwd=ROOT, check=False).returncode
    if found == 0:
        print(f"{PAGE} is well.")
    return found


if __name__ == "__main__":
    sys.exit(main())

"""`make audit`: what is publicly known against the packages that are locked, by pip-audit.

Ends with 0 when nothing is known, 1 when something is, and 3 when no source of advisories could be asked about all of
them: that is no "nothing is known".
"""

import json
import subprocess
import sys
from pathlib import Path

from deploy.checks.kubernetes import TOOLS
from deploy.supply import locks

CLEAN, FOUND, UNKNOWN = 0, 1, 3
PIP_AUDIT = TOOLS / "pip-audit"
# The index's own advisories, and those of OSV, where the index passes none on.
SOURCES = ("pypi", "osv")


def audit(pip_audit: Path, lock: Path) -> int:
    """Says what is known against a lock's packages, and returns how it went."""
    words = ""
    for source in SOURCES:
        command = [str(pip_audit), "-r", str(lock), "--disable-pip", "--require-hashes", "-s", source, "-f", "json"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            packages = json.loads(ended.stdout)["dependencies"]
        except (ValueError, KeyError):
            words = (ended.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
            continue
        # An index that has no advisories answers as if it had no such package, and pip-audit lets that pass.
        if skipped := [package for package in packages if "skip_reason" in package]:
            words = f"{source} knows nothing of {len(skipped)} of {len(packages)}"
            continue
        against = [(package, known) for package in packages for known in package.get("vulns", ())]
        for package, known in against:
            better = ", ".join(known["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {known['id']}; mended in {better}")
        if not against:
            print(f"Nothing is known against the {len(packages)} packages of {lock.name}.")
        return FOUND if against else CLEAN
    print(f"{lock.name} was not audited: no source of advisories could be asked ({words[:200]}).", file=sys.stderr)
    return UNKNOWN


def main() -> int:
    return max(audit(PIP_AUDIT, lock) for lock in (locks.EVERYTHING, locks.PROCESSOR))


if __name__ == "__main__":
    sys.exit(main())

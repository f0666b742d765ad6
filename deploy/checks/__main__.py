"""`make manifests`: checks the Dockerfile, docker-compose.yml, and every combination of deploy/k8s."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from deploy import credentials
from deploy.checks import kubernetes
from deploy.checks.kubernetes import ROOT, TOOLS


def check_dockerfile() -> str:
    subprocess.run([TOOLS / "hadolint", "deploy/docker/Dockerfile"], cwd=ROOT, check=True)
    return "deploy/docker/Dockerfile is well."


def check_compose() -> str:
    with tempfile.TemporaryDirectory() as folder:
        env_file = Path(folder) / ".env"
        credentials.make(credentials.CredentialSettings(gristmill_data=Path(folder) / "data", env_file=env_file))
        subprocess.run([TOOLS / "docker-compose", "--env-file", env_file, "config", "-q"], cwd=ROOT, check=True)
    return "docker-compose.yml is well."


def check_kubernetes() -> str:
    builds = kubernetes.build_all()
    objects = kubernetes.distinct(builds)
    kubernetes.validate(objects)
    kubernetes.scan(objects)
    return f"deploy/k8s is well: {len(builds)} combinations, {len(objects)} objects that differ."


def main() -> int:
    checks: list[Callable[[], str]] = [check_dockerfile, check_compose, check_kubernetes]
    for check in checks:
        started = time.monotonic()
        try:
            print(f"{check()} ({time.monotonic() - started:.0f} s)", flush=True)
        except (subprocess.CalledProcessError, kubernetes.CheckError) as error:
            print(f"{check.__name__}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

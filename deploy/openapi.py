"""`python -m deploy.openapi`: writes front's OpenAPI document, which is committed so that a change of it is seen."""

import argparse
import json
from pathlib import Path

from common.web.serve import Readiness
from services.front.app import public_app

PATH = Path(__file__).resolve().parents[1] / "docs" / "openapi" / "front.json"


def generated() -> str:
    """The document as it is committed: keys sorted, so that the order of definitions in the code makes no diff."""
    app = public_app(Readiness(), _nothing_to_check)
    return json.dumps(app.openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


async def _nothing_to_check() -> None:
    """Nothing is served here."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.openapi", description="Write the OpenAPI document of front's public API."
    )
    parser.add_argument("path", nargs="?", type=Path, default=PATH, help="where to (default: docs/openapi/front.json)")
    path: Path = parser.parse_args().path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(generated(), encoding="utf-8")


if __name__ == "__main__":
    main()

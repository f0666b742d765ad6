"""`python -m services.processor`"""

from common.logging import configure
from common.settings import load
from services.processor.app import run_processor
from services.processor.settings import Settings


def main() -> None:
    settings = load(Settings)
    configure("processor", settings.log_level)
    run_processor(settings)


if __name__ == "__main__":
    main()

"""`python -m services.processor`"""

from common import telemetry
from common.logging import configure
from common.settings import load, refuse
from services.processor import registry
from services.processor.app import run_processor
from services.processor.sandbox.process import Unconfined
from services.processor.settings import Settings


def main() -> None:
    settings = load(Settings)
    try:
        processors = registry.available(settings)
    except registry.RegistryError as error:
        refuse(str(error))
    configure("processor", settings.log_level)
    telemetry.start("processor")
    try:
        run_processor(settings, processors)
    except Unconfined as error:
        refuse(f"PROCESSOR_SANDBOX: {error}.")


if __name__ == "__main__":
    main()

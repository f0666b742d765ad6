"""`python -m deploy.local up`, `token`, `backup` and `restore`, which the Makefile calls."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from common.settings import load
from deploy.local import keys, tokens
from deploy.local.backup import BackupError, backup, restore
from deploy.local.checks import CheckError, check_names, check_room
from deploy.local.mongod import MongodError
from deploy.local.seaweed import SeaweedError
from deploy.local.settings import LocalSettings, TokenSettings
from deploy.local.supervisor import SupervisionError
from deploy.local.tokens import TokenError
from deploy.local.up import say, up


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description="Run Gristmill on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start everything, and stay until stopped")
    commands.add_parser("token", help="print a token for a user")
    for name, what in (("backup", "copy all data and keys"), ("restore", "put a backup where there is no data yet")):
        commands.add_parser(name, help=what).add_argument("folder", type=Path, help="the folder of the backup")
    try:
        told = parser.parse_args()
        if told.command == "up":
            check_names(os.environ)
            asyncio.run(up(load(LocalSettings)))
        elif told.command == "token":
            print(token(load(TokenSettings)))
        else:
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.default_int_handler)  # as Ctrl-C: what is half made is removed
            {"backup": backup, "restore": restore}[told.command](load(LocalSettings), told.folder.absolute(), say)
    except (BackupError, CheckError, MongodError, SeaweedError, SupervisionError, TokenError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 1
    return 0


def token(settings: TokenSettings) -> str:
    """A token as the settings describe it; the first one makes the keys. Raises `TokenError`, `CheckError`."""
    claims = tokens.parse_claims(settings.claims)
    data = settings.gristmill_data.absolute()
    check_room(data)
    return tokens.make(keys.ensure(data).users_secret, settings.tenant, settings.sub, settings.ttl, claims)


if __name__ == "__main__":
    sys.exit(main())

"""Processors that misbehave, for the worker and the sandbox to survive."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gristmill import Context, InputFile, InvalidInput, LimitExceeded, Output, Params, Processor


class Script(Params):
    act: Literal[
        "echo",
        "hang",
        "spin",
        "hog",
        "abort",
        "kill",
        "raise",
        "invalid",
        "limit",
        "fill",
        "escape",
        "twice",
        "look",
        "spawn",
    ] = "echo"
    where: str = ""


class Scripted(Processor[Script]):
    """Does what its parameter says. `where` is a file through which a test hears of it."""

    name = "scripted"
    version = "1.2.3"
    summary = "Misbehaves as told."
    media_types = ("*/*",)
    params_model = Script

    def process(self, file: InputFile, params: Script, context: Context) -> Sequence[Output]:
        result: Sequence[Output] = getattr(self, f"_{params.act}")(file, params, context)
        return result

    def _echo(self, file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        outputs = []
        for n in range(2):
            path = context.new_file(f"../../{n}.txt")
            path.write_bytes(file.path.read_bytes() + str(n).encode())
            outputs.append(Output(f"{n}.txt", "text/plain", path))
        return outputs

    def _hang(self, _file: InputFile, params: Script, _context: Context) -> Sequence[Output]:
        _tell(params.where, str(os.getpid()))
        time.sleep(3600)
        return []

    def _spin(self, _file: InputFile, _params: Script, _context: Context) -> Sequence[Output]:
        while True:
            pass

    def _hog(self, _file: InputFile, _params: Script, _context: Context) -> Sequence[Output]:
        hoard = []
        while True:
            hoard.append(bytearray(64 * 2**20))

    def _abort(self, _file: InputFile, _params: Script, _context: Context) -> Sequence[Output]:
        os.abort()

    def _kill(self, _file: InputFile, _params: Script, _context: Context) -> Sequence[Output]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    def _raise(self, file: InputFile, _params: Script, _context: Context) -> Sequence[Output]:
        raise RuntimeError(f"a secret, and {file.path}")

    def _invalid(self, _file: InputFile, _params: Script, _context: Context) -> Sequence[Output]:
        raise InvalidInput("The third page is blank.")

    def _limit(self, _file: InputFile, _params: Script, _context: Context) -> Sequence[Output]:
        raise LimitExceeded("At most three pages are taken.")

    def _fill(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        with context.new_file("full").open("wb") as target:
            while True:
                target.write(bytes(2**20))

    def _escape(self, _file: InputFile, params: Script, context: Context) -> Sequence[Output]:
        path = context.new_file("innocent.txt")
        path.symlink_to(params.where)
        return [Output("innocent.txt", "text/plain", path)]

    def _twice(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        path = context.new_file("same.txt")
        path.write_text("same")
        return [Output("same.txt", "text/plain", path)] * 2

    def _look(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        """What a nosy plug-in can see of the processor's environment, in its own process and in the first one."""
        path = context.new_file("seen.txt")
        names = Path("/proc/self/environ").read_text() + "\n" + "\n".join(os.environ)
        path.write_text(f"{names}\n{Path.cwd() == context.folder}")
        return [Output("seen.txt", "text/plain", path)]

    def _spawn(self, _file: InputFile, params: Script, _context: Context) -> Sequence[Output]:
        grandchild = subprocess.Popen(["/bin/sleep", "3600"])
        _tell(params.where, str(grandchild.pid))
        time.sleep(3600)
        return []


def _tell(where: str, what: str) -> None:
    """Through a named pipe, so that the test can await it instead of looking again and again."""
    with open(where, "w") as pipe:  # noqa: PTH123 - a pipe, not a file
        pipe.write(what)

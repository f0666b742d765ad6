"""Processors that misbehave, for the worker and the sandbox to survive."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gristmill import Context, InputFile, InvalidInput, LimitExceeded, Output, Params, Processor
from tests.fakes import attempts


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
        "report",
        "scatter",
        "hide",
        "bury",
        "nest",
        "trap",
        "swell",
        "swap",
        "borrow",
        "sparse",
        "many",
        "badly named",
        "nap",
    ] = "echo"
    where: str = ""


PID_FILE = "pid"


class Scripted(Processor[Script]):
    """Does what its parameter says. What hangs has left its id in its folder by the time it tells of progress."""

    name = "scripted"
    version = "1.2.3"
    summary = "Misbehaves as told."
    media_types = ("*/*",)
    params_model = Script

    def process(self, file: InputFile, params: Script, context: Context) -> Sequence[Output]:
        result: Sequence[Output] = getattr(self, f"_{params.act.replace(' ', '_')}")(file, params, context)
        return result

    def _echo(self, file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        outputs = []
        for n in range(2):
            path = context.new_file(f"../../{n}.txt")
            path.write_bytes(file.path.read_bytes() + str(n).encode())
            outputs.append(Output(f"{n}.txt", "text/plain", path))
        return outputs

    def _hang(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        _tell(context, os.getpid())
        time.sleep(3600)
        return []

    def _nap(self, file: InputFile, params: Script, context: Context) -> Sequence[Output]:
        _tell(context, os.getpid())
        time.sleep(1)
        return self._echo(file, params, context)

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

    def _swap(self, _file: InputFile, params: Script, context: Context) -> Sequence[Output]:
        """Puts a link in the place of its folder, and gives a file that is behind it."""
        context.folder.rename(context.folder.with_name("elsewhere"))
        context.folder.symlink_to(params.where)
        output = Output("innocent.txt", "text/plain", context.folder / "secret")
        return [output]

    def _borrow(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        """One file under many names."""
        path = context.new_file("a.txt")
        path.write_text("a")
        again = context.folder / "b.txt"
        again.hardlink_to(path)
        return [Output("a.txt", "text/plain", path), Output("b.txt", "text/plain", again)]

    def _sparse(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        """Files that are large and take no room."""
        outputs = []
        for n in range(3):
            path = context.new_file(f"{n}.bin")
            with path.open("wb") as target:
                target.truncate(30 * 2**20)
            outputs.append(Output(f"{n}.bin", "application/octet-stream", path))
        return outputs

    def _many(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        path = context.new_file("page.txt")
        path.write_text("a page")
        return [Output(f"page-{n}.txt", "text/plain", path) for n in range(12_000)]

    def _badly_named(self, _file: InputFile, params: Script, context: Context) -> Sequence[Output]:
        """As one who takes over a decoder would: the class that checks is passed by."""
        path = context.new_file("a.txt")
        path.write_text("a")
        output = Output("a.txt", "text/plain", path)
        object.__setattr__(output, "name", params.where)
        return [output]

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

    def _spawn(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        grandchild = subprocess.Popen(["/bin/sleep", "3600"])
        _tell(context, grandchild.pid)
        time.sleep(3600)
        return []

    def _report(self, file: InputFile, params: Script, context: Context) -> Sequence[Output]:
        """What came of each attempt to leave the sandbox, by its name."""
        path = context.new_file("report.json")
        path.write_text(json.dumps(attempts.make(params.where)))
        return [Output("report.json", "application/json", path)]

    def _scatter(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        """Writes without end, to files that are small each."""
        while True:
            context.new_file("part").write_bytes(bytes(2**20))

    def _hide(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        """Keeps much in files that have no name any more."""
        kept = []
        for _ in range(100):
            path = context.new_file("hidden")
            kept.append(path.open("wb", buffering=0))
            path.unlink()
            kept[-1].write(bytes(2**20))
        time.sleep(3600)
        return []

    def _bury(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        """Makes files without end, with nothing in them."""
        while True:
            context.new_file("empty").touch()

    def _nest(self, _file: InputFile, _params: Script, context: Context) -> Sequence[Output]:
        """Leaves a folder that is deeper than any path, and can't be read."""
        locked = context.folder / "locked"
        (locked / "inside").mkdir(parents=True)
        locked.chmod(0)
        for _ in range(3000):
            os.mkdir("deeper")  # noqa: PTH102 - relative to where the next line leads
            os.chdir("deeper")
        return []

    def _trap(self, _file: InputFile, params: Script, context: Context) -> Sequence[Output]:
        """Puts what can't be read where the processor reads."""
        for name in ("result.json", "progress", "printed"):
            path = context.folder.parent / name
            path.unlink(missing_ok=True)
            if params.where:
                path.symlink_to(Path(params.where, name))
            else:
                os.mkfifo(path)
        time.sleep(1)  # for long enough to be read by some heartbeats
        os._exit(0)

    def _swell(self, _file: InputFile, _params: Script, _context: Context) -> Sequence[Output]:
        """Starts programs without end."""
        while True:
            subprocess.Popen(["/bin/sleep", "3600"])


class ScriptedPrograms(Scripted):
    """The same, and may start programs."""

    programs = True


class ScriptedNetwork(Scripted):
    """The same, and may open connections."""

    network = True


def _tell(context: Context, pid: int) -> None:
    (context.folder / PID_FILE).write_text(str(pid))
    context.progress(0.5)

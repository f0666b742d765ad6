"""The processor `command` in real child processes, with programs that do what they shouldn't."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from services.processor.processors.command import Command, CommandConfiguration
from tests.integration.processor.test_worker import end_of
from tests.support.one_processor import OneProcessor, one_processor
from tests.support.processes import seen_from_here

MIB = 2**20
TOLD = "*/*/run-*/work/told"
INTERNAL = ("internal", "The processor failed.")
RESOURCE_LIMIT = ("resource-limit", "The work needed more memory or disk than it may have.")


def running(argv: list[str], folder: Path, **changes: Any) -> AbstractAsyncContextManager[OneProcessor]:
    names = ("memory_bytes", "output_bytes", "wall_seconds", "cpu_seconds", "drain_seconds")
    settings = {name: changes.pop(name) for name in names if name in changes}
    return one_processor(Command(CommandConfiguration(argv=argv, **changes)), folder, **settings)


def script(text: str, folder: Path, **changes: Any) -> AbstractAsyncContextManager[OneProcessor]:
    """A program that `sh` carries out: $1 is the input, $2 the output, $3 the parameters."""
    return running(["/bin/sh", "-c", text, "sh", "{input}", "{output}", "{params}"], folder, **changes)


async def told(processor: OneProcessor) -> str:
    """The process whose id a program of the one run writes into the file `told` of its folder."""
    async with asyncio.timeout(20):
        while not (found := list(processor.work_dir.glob(TOLD))):  # noqa: ASYNC110 - it can't set an event of ours
            await asyncio.sleep(0.02)
    return seen_from_here(found[0].read_text().strip(), found[0].parent)


async def test_what_a_program_prints_is_the_output(tmp_path: Path) -> None:
    async with running(["wc", "-c", "{input}"], tmp_path) as processor:
        (output,) = await processor.run(b"hello")
    assert (output.name, output.mimetype) == ("result.txt", "text/plain")
    assert output.content.split()[0] == b"5"


async def test_what_a_program_writes_is_the_output(tmp_path: Path) -> None:
    text = 'echo "this goes nowhere"; [ "${2##*.}" = json ] && cp "$3" "$2"'
    async with script(text, tmp_path, output_name="sums.json") as processor:
        (output,) = await processor.run(name="ä", text="$(id) `id` ; '\"", list=[1, 2.5, None])
    assert (output.name, output.mimetype) == ("sums.json", "application/json")
    assert json.loads(output.content) == {"text": "$(id) `id` ; '\"", "list": [1, 2.5, None]}


async def test_a_folder_has_an_output_in_each_file(tmp_path: Path) -> None:
    async with script('mkdir "$2" && cp "$1" "$2/b.csv" && echo "<p>" > "$2/a.html"', tmp_path) as processor:
        outputs = await processor.run(b"1,2")
    assert [(output.name, output.mimetype, output.content) for output in outputs] == [
        ("a.html", "text/html", b"<p>\n"),
        ("b.csv", "text/csv", b"1,2"),
    ]


async def test_no_shell_reads_the_command_line_and_only_places_are_filled(tmp_path: Path) -> None:
    argv = ["printf", "%s|", "$HOME", "a;b", "{other}", "{{input}}", "x={params}"]
    async with running(argv, tmp_path) as processor:
        (output,) = await processor.run(name="{output}; rm -rf $HOME")
    home, joined, other, place, params, _ = output.content.decode().split("|")
    assert (home, joined, other) == ("$HOME", "a;b", "{other}")
    assert place.startswith("{/")
    assert params.startswith("x=/")
    assert all(char.isalnum() or char in "/-_.{}=" for char in place + params)


async def test_a_program_knows_nothing_of_ours(tmp_path: Path) -> None:
    async with script('env > "$2"; pwd >> "$2"; readlink /proc/self/fd/0 >> "$2"', tmp_path) as processor:
        (output,) = await processor.run()
    *variables, folder, stdin = output.content.decode().splitlines()
    names = {line.partition("=")[0]: line.partition("=")[2] for line in variables}
    assert names.keys() - {"_", "SHLVL", "OLDPWD"} == {"PATH", "LANG", "HOME", "TMPDIR", "PWD"}
    assert names["HOME"] == names["TMPDIR"] == folder
    assert Path(folder).is_relative_to(tmp_path / "work")
    assert stdin == "/dev/null"


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("echo; echo '  Page 3 is\t\x07blank. ' >&2; echo more >&2; exit 65", ("invalid-input", "Page 3 is blank.")),
        ('cat "$1/x"; echo "$1: no picture" >&2; exit 66', ("invalid-input", "cat: photo.txt/x: Not a directory")),
        ("exit 65", ("invalid-input", "The program can't work on this file.")),
        ("echo a secret >&2; exit 75", ("unavailable", "The program can't work now.")),
        ("echo a secret >&2; exit 1", INTERNAL),
        ("echo a secret >&2; exit 127", INTERNAL),
        ("kill -9 $$", INTERNAL),
        ("kill -SEGV $$", INTERNAL),
        ("kill -ABRT $$", RESOURCE_LIMIT),
        ("exit 0", INTERNAL),
        ('ln -s /etc/passwd "$2"', INTERNAL),
        ('mkfifo "$2"', INTERNAL),
        ('mkdir "$2"; ln -s /etc/passwd "$2/a"', INTERNAL),
        ('mkdir -p "$2/a"', INTERNAL),
        ('mkdir "$2"; echo > "$2/a\nb"', INTERNAL),
        ('mkdir "$2"; for n in $(seq 1001); do : > "$2/$n"; done', INTERNAL),
    ],
)
async def test_how_a_program_ends_says_whose_fault_it_was(tmp_path: Path, text: str, failure: tuple[str, str]) -> None:
    async with script(text, tmp_path, input_error_codes=[65, 66]) as processor:
        assert await processor.failure() == failure


async def test_the_log_has_a_programs_last_words_and_the_user_has_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with script("seq 100000 >&2; exit 3", tmp_path) as processor:
        assert await processor.failure() == INTERNAL
    said = capsys.readouterr().out
    assert "ended with 3" in said
    assert "99999" in said
    assert "99000" not in said


@pytest.mark.parametrize(
    ("text", "limit", "failure"),
    [
        ("sleep 3600", {"wall_seconds": 1}, ("timeout", "The work took longer than it may.")),
        ("while :; do :; done", {"cpu_seconds": 1}, ("timeout", "The work took longer than it may.")),
        ('exec cat /dev/zero > "$2"', {"output_bytes": MIB}, RESOURCE_LIMIT),
        ("exec cat /dev/zero", {"output_bytes": MIB}, RESOURCE_LIMIT),
        ("exec cat /dev/zero >&2", {"output_bytes": MIB}, RESOURCE_LIMIT),
    ],
)
async def test_a_program_has_the_limits_of_its_run(
    tmp_path: Path, text: str, limit: dict[str, Any], failure: tuple[str, str]
) -> None:
    async with script(text, tmp_path, **limit) as processor:
        assert await processor.failure() == failure


async def test_a_program_that_needs_more_memory_than_it_may_have_gets_none(tmp_path: Path) -> None:
    text = 'head -c 1G /dev/zero | tail -c 900M > /dev/null && echo enough > "$2"'
    async with script(text, tmp_path, memory_bytes=2**28) as processor:
        # It may say so, or be ended because all of its processes together have more than one may.
        assert await processor.failure() in (INTERNAL, RESOURCE_LIMIT)


@pytest.mark.parametrize("end", ["exit 0", "sleep 3600"])
async def test_what_a_program_leaves_behind_ends_with_the_run(tmp_path: Path, end: str) -> None:
    text = f'sleep 3600 & echo "$!" > new; echo done > "$2"; mv new told; while [ -e told ]; do :; done; {end}'
    async with script(text, tmp_path, wall_seconds=5) as processor:
        processor.job.submit()
        pid = await told(processor)
        ended = end_of(pid)
        (found,) = processor.work_dir.glob(TOLD)
        found.unlink()
        await processor.job.reports.get()
        await ended

"""Private folders: kept while their process lives, removed once it is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.processor.sandbox.folders import process_folder, run_folder

HOLDER = """
import sys, time
from pathlib import Path
from services.processor.sandbox.folders import process_folder
with process_folder(Path(sys.argv[1])) as folder:
    (folder / "input").write_text("somebody's picture")
    print(folder, flush=True)
    time.sleep(3600)
"""


def test_what_a_killed_processor_left_goes_with_the_next_start_and_not_before(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder, holder.stdout:
        theirs = Path(holder.stdout.readline().strip())
        with process_folder(tmp_path) as ours:
            assert ours != theirs
            assert (theirs / "input").exists()
        holder.kill()
        holder.wait()
        assert (theirs / "input").exists()
        with process_folder(tmp_path):
            assert not theirs.exists()


def test_a_folder_is_private_and_goes_with_its_process(tmp_path: Path) -> None:
    with process_folder(tmp_path / "made" / "here") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_a_link_that_somebody_else_laid_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"gristmill-processor-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError), process_folder(tmp_path):
        pass


async def test_a_runs_folder_is_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
    async with run_folder(tmp_path) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("text")
    assert not folder.exists()

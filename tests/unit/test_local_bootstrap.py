"""The setup: what it says when it can't be made, and when it is made again."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import bootstrap


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose lock and project are small enough to install without any network."""
    (tmp_path / "requirements.lock").write_text("")
    for project in ("pyproject.toml", "libs/gristmill/pyproject.toml"):
        (tmp_path / project).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / project).write_text("[project]\nname = 'nothing'\nversion = '0'\n")
    return tmp_path


def finish(checkout: Path) -> None:
    """What a setup that came to its end leaves."""
    (checkout / bootstrap.STAMP).parent.mkdir()
    (checkout / bootstrap.STAMP).write_text("\n".join([bootstrap.place(checkout), bootstrap.digest(checkout)]))


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 10, 13)])
def test_an_old_python_is_turned_away_in_one_sentence(version: tuple[int, ...]) -> None:
    fault = bootstrap.fault_of_python(version)
    assert fault.startswith(f"Gristmill needs Python 3.11 or newer, and this is {version[0]}.{version[1]}")
    assert "\n" not in fault


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 2), (4, 0, 0)])
def test_a_new_python_will_do(version: tuple[int, ...]) -> None:
    assert bootstrap.fault_of_python(version) == ""


def test_no_room_is_one_sentence(checkout: Path) -> None:
    with pytest.raises(bootstrap.SetupError, match=r"^There is no room for \.venv: [^\n]*\.$"):
        bootstrap.set_up(checkout, needed_bytes=2**60)
    assert not (checkout / ".venv").exists()


def test_a_finished_setup_is_left_alone(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(checkout)
    # If it were not, then it would fail for want of room.
    bootstrap.set_up(checkout, needed_bytes=2**60)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml", "libs/gristmill/pyproject.toml"])
def test_another_lock_or_project_is_set_up_again(checkout: Path, name: str) -> None:
    finish(checkout)
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    with pytest.raises(bootstrap.SetupError):
        bootstrap.set_up(checkout, needed_bytes=2**60)


def test_a_setup_that_fails_says_why_and_is_made_anew_by_the_next_run(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(checkout)
    (checkout / "requirements.lock").write_text("./nowhere.whl --hash=sha256:" + 64 * "0" + "\n")
    assert bootstrap.main(checkout) == 1
    said = capsys.readouterr()
    assert said.out == ""  # `make token` prints nothing but a token there
    assert "nowhere.whl" in said.err
    assert said.err.splitlines()[-1].startswith("pip failed while it installed packages")
    assert bootstrap.read_stamp(checkout) == []


def run_make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    # Not the whole environment: these tests may run under a make of their own, which would be heard here.
    return subprocess.run(
        ["make", *arguments],  # noqa: S607 - whichever is on the PATH is what a stranger types
        cwd=bootstrap.ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_second_setup_waits_for_the_first_and_finds_all_done(checkout: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from deploy.local import bootstrap;"
        f"sys.exit(bootstrap.main(Path({str(checkout)!r})))"
    )
    with (checkout / bootstrap.LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
        assert second.stderr
        assert second.stderr.readline() == "Another setup is under way here: waiting for its end.\n"
        finish(checkout)  # as the first does meanwhile; made anew, it would say so
    said = second.communicate()[1]
    assert (second.returncode, said) == (0, "")


def test_make_says_what_it_can_do() -> None:
    helped = run_make("help").stdout
    for target in ("up", "token", "test", "check", "help"):
        assert f"make {target} " in helped


def test_a_missing_python_is_one_sentence() -> None:
    failed = run_make("up", "PYTHON=no-such-python")
    assert failed.returncode != 0
    assert failed.stdout == ""
    assert failed.stderr.startswith("Gristmill needs Python 3.11 or newer, and there is no no-such-python")

"""docs/problems.md names every problem and every error of a job, as the code does."""

from common.errors import all_problems
from common.failures import FAILURES
from tests.support.pages import page, rows, section

PAGE = page("docs/problems.md")


def test_every_problem_is_on_the_page_as_it_is_in_the_code() -> None:
    listed = [row[:3] for row in rows(section(PAGE, "## Problems of requests"))]
    assert listed == [[kind.slug, str(kind.status), kind.default_detail()] for kind in all_problems()]


def test_every_problem_says_what_to_do() -> None:
    assert all(row[3] for row in rows(section(PAGE, "## Problems of requests")))


def test_every_error_of_a_job_is_on_the_page_as_it_is_in_the_code() -> None:
    listed = rows(section(PAGE, "## Errors of a job"))
    assert listed == [
        [
            failure.slug,
            "user" if failure.users_fault else "server",
            "yes" if failure.retried else "no",
            f"{failure.title}.",
        ]
        for failure in FAILURES.values()
    ]

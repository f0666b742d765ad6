"""Why a job can end in an error: one table, which job, front and the docs share.

A failure is the user's (the same input fails again, so one attempt is all it gets) or ours (tried again).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """One kind of failure; `retried`: a run that failed so is tried again."""

    slug: str
    title: str
    users_fault: bool
    retried: bool


_ALL = (
    Failure("invalid-input", "The input can't be processed: it is broken or not what it claims to be", True, False),
    Failure("limit", "The input is larger than the processor's limits allow", True, False),
    # A child that outgrows its memory does so again on the same input, so a second attempt only costs.
    Failure("resource-limit", "The work needed more memory or disk than it may have", True, False),
    Failure("timeout", "The work took longer than it may", False, True),
    Failure("internal", "The processor failed", False, True),
    Failure("unavailable", "What the processor depends on didn't answer", False, True),
    Failure("deadline", "The job had not ended by its deadline", False, False),
    Failure("poison", "The run ended its processor each time it was tried", False, False),
    Failure("input-lost", "The input never reached the store and can no longer come", False, False),
    Failure("upload-mismatch", "The file that was uploaded isn't the one that was announced", True, False),
    Failure("upload-expired", "The file was not uploaded in time", True, False),
    Failure(
        "batch-failed",
        "Another file of the batch failed or was cancelled, and the batch starts whole or not at all",
        True,
        False,
    ),
    Failure("refused", "A part of the platform refused the job", False, False),
)

FAILURES = {failure.slug: failure for failure in _ALL}

"""Every transition of a run as an update pipeline, and every condition that a query has on time.

Pipelines, because only they know `$$NOW`, the server's clock. In them a string such as `$name` is an
expression, so what comes from outside goes in as a `$literal`. An expression reads the document as it was
before its stage, and `$$REMOVE` leaves a field out.
"""

from collections.abc import Sequence
from typing import Any

from bson import encode
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from common.contracts.job import RunState
from common.errors import Invalid
from common.mongo.client import Document, literal
from common.mongo.clock import NOW, from_now
from services.job.domain.rules import DEADLINE, POISON, TOMBSTONE_SECONDS, RetryPolicy
from services.job.ports import Handover

Pipeline = list[Document]

REMOVE = "$$REMOVE"
# With any claim's id, so that MongoDB sees that the index of claims holds all that this asks for.
RUNNING = {"claimId": {"$gt": ""}, "state": RunState.RUNNING}
# The fields of an attempt under way: one that is over leaves nothing of them.
ATTEMPT = ["claimId", "leaseUntil", "started", "phase", "progress"]

# The process that ended a run reports it at once; only after this long does it fall to whichever looks first.
REPORT_GRACE_SECONDS = 5
REPORT_AGAIN_SECONDS = 2
REPORT_AGAIN_AT_MOST_SECONDS = 30


def encoded(fields: Document) -> RawBSONDocument:
    """The fields as BSON. Raises `Invalid` for what BSON can't hold, before it could spoil a bulk write for others."""
    try:
        return RawBSONDocument(encode(fields))
    except (BSONError, OverflowError, UnicodeEncodeError) as error:
        raise Invalid("The body holds a number or a text that can't be stored.") from error


def submit(fields: Document, handover: Handover | None, deadline_seconds: float | None = None) -> Pipeline:
    """Makes the whole document; `fields` are all but what the server's clock gives."""
    fields = {**fields, "state": RunState.QUEUED, "fence": 0, "attempt": 0}
    times: Document = {"queuedAt": NOW, "availableAt": NOW}
    if handover is not None:
        fields |= {"state": RunState.RUNNING, "fence": 1, "claimId": handover.claim_id, "started": False}
        times["leaseUntil"] = from_now(handover.start_seconds)
    if deadline_seconds is not None:
        times["deadlineAt"] = from_now(deadline_seconds)
    return [{"$replaceWith": {"$mergeObjects": [literal(encoded(fields)), times]}}]


def claim(claim_id: str, start_seconds: float) -> Pipeline:
    return [
        {
            "$set": {
                "state": RunState.RUNNING,
                "fence": {"$add": ["$fence", 1]},
                "claimId": literal(claim_id),
                "started": False,
                "leaseUntil": from_now(start_seconds),
            }
        }
    ]


def heartbeat(lease_seconds: float, *, started: bool, phase: str | None, progress: float | None) -> Pipeline:
    begins = {"$and": [started, {"$not": "$started"}]}
    fields: Document = {
        "started": {"$or": ["$started", started]},
        "attempt": {"$cond": [begins, {"$add": ["$attempt", 1]}, "$attempt"]},
        "leaseUntil": from_now(lease_seconds),
        "startedAt": {"$cond": [begins, NOW, "$startedAt"]},
    }
    if phase is not None:
        fields["phase"] = literal(phase)
    if progress is not None:
        fields["progress"] = progress
    return [{"$set": fields}]


def complete(outputs: Sequence[Document], token: str) -> Pipeline:
    fields = {
        "state": RunState.SUCCESS,
        "attempt": _ATTEMPTS,
        "outputs": literal(encoded({"outputs": outputs})["outputs"]),
        "endedAt": NOW,
        "reportDueAt": from_now(REPORT_GRACE_SECONDS),
        "token": token,
    }
    return [{"$set": fields}, {"$unset": [*ATTEMPT, "deadlineAt"]}]


def fail(error: Document, retry: RetryPolicy | None, token: str) -> Pipeline:
    again: Any = {"$lt": [_ATTEMPTS, retry.max_attempts]} if retry else False
    fields = {
        "attempt": _ATTEMPTS,
        "availableAt": {"$cond": [again, _backoff(retry, _ATTEMPTS), "$availableAt"]} if retry else "$availableAt",
        "token": token,
        **_ends_unless(again, error, REPORT_GRACE_SECONDS),
    }
    return [{"$set": fields}, {"$unset": ATTEMPT}]


def release(token: str) -> Pipeline:
    fields = {
        "state": RunState.QUEUED,
        "fence": {"$add": ["$fence", 1]},
        "attempt": {"$cond": ["$started", {"$subtract": ["$attempt", 1]}, "$attempt"]},
        "token": token,
    }
    return [{"$set": fields}, {"$unset": [*ATTEMPT, "startedAt"]}]


def take_back(retry: RetryPolicy) -> Pipeline:
    """Takes a run back whose lease has lapsed. It keeps its place in line: it has rested."""
    lapses = {"$add": [{"$ifNull": ["$lapses", 0]}, 1]}
    again = {"$or": [{"$not": "$started"}, {"$lt": [lapses, retry.max_attempts]}]}
    fields = {
        "fence": {"$add": ["$fence", 1]},
        "lapses": {"$cond": ["$started", lapses, "$lapses"]},
        "alone": {"$cond": ["$started", {"$eq": [lapses, retry.max_attempts - 1]}, "$alone"]},
        **_ends_unless(again, POISON.model_dump(), 0),
    }
    return [{"$set": fields}, {"$unset": ATTEMPT}]


def pass_deadline() -> Pipeline:
    """Ends a run, queued or running, whose deadline has passed."""
    fields = {"fence": {"$add": ["$fence", 1]}, **_ends_unless(False, DEADLINE.model_dump(), 0)}
    return [{"$set": fields}, {"$unset": ATTEMPT}]


def cancel() -> Pipeline:
    """Ends a run that hasn't ended; of one that isn't there it makes a tombstone, which isn't reported."""
    unknown = {"$eq": [{"$type": "$state"}, "missing"]}
    fields = {
        "state": RunState.CANCELLED,
        "fence": {"$add": [{"$ifNull": ["$fence", -1]}, 1]},
        "attempt": {"$ifNull": ["$attempt", 0]},
        "endedAt": NOW,
        "reportDueAt": {"$cond": [unknown, REMOVE, NOW]},
        "forgetAt": {"$cond": [unknown, from_now(TOMBSTONE_SECONDS), REMOVE]},
    }
    return [{"$set": fields}, {"$unset": [*ATTEMPT, "deadlineAt"]}]


def delete() -> Pipeline:
    """Leaves of a run that it was there, and how it ended."""
    kept = {name: f"${name}" for name in ("_id", "state", "fence", "attempt")}
    return [{"$replaceWith": {**kept, "deleted": True, "forgetAt": from_now(TOMBSTONE_SECONDS)}}]


def claim_report() -> Pipeline:
    """Puts a report off, for longer each time, up to 30 s."""
    reports = {"$ifNull": ["$reports", 0]}
    pause = {"$min": [{"$multiply": [REPORT_AGAIN_SECONDS, {"$pow": [2, reports]}]}, REPORT_AGAIN_AT_MOST_SECONDS]}
    due_at = {"$add": [NOW, {"$multiply": [pause, 1000]}]}
    return [{"$set": {"reportDueAt": due_at, "reports": {"$add": [reports, 1]}}}]


# Whether the deadline, if there is one, has not passed.
IN_TIME: Document = {"$gt": [{"$ifNull": ["$deadlineAt", from_now(1)]}, NOW]}

# Whether a queued run may be taken now.
TAKEABLE: Document = {"$and": [{"$lte": ["$availableAt", NOW]}, IN_TIME]}

# A run that ends without a heartbeat that started it was tried all the same.
_ATTEMPTS: Document = {"$cond": ["$started", "$attempt", {"$add": ["$attempt", 1]}]}


def _backoff(retry: RetryPolicy, attempts: object) -> Document:
    """`RetryPolicy.backoff` from now, in the server's terms."""
    doubled = {"$pow": [2, {"$subtract": [attempts, 1]}]}
    jitter = {"$add": [0.5, {"$divide": [{"$rand": {}}, 2]}]}
    return {"$add": [NOW, {"$multiply": [retry.backoff_seconds * 1000, doubled, jitter]}]}


def _ends_unless(again: object, error: Document, report_seconds: float) -> Document:
    return {
        "state": {"$cond": [again, RunState.QUEUED, RunState.FAILED]},
        "error": {"$cond": [again, REMOVE, literal(encoded(error))]},
        "startedAt": {"$cond": [again, REMOVE, "$startedAt"]},
        "endedAt": {"$cond": [again, REMOVE, NOW]},
        "deadlineAt": {"$cond": [again, "$deadlineAt", REMOVE]},
        "reportDueAt": {"$cond": [again, REMOVE, from_now(report_seconds)]},
    }

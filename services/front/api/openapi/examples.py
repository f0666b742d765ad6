"""Examples of what front answers, as the OpenAPI page shows them: those of one picture, one batch, and one event."""

import json
from typing import Any

_ID, _BATCH_ID, _FILE_ID = (f"01a21c00-0000-7000-8000-00000000000{n}" for n in range(3))
_AT = [f"2026-11-27T08:00:0{second}.000Z" for second in range(4)]
# A link to a store is its operator's own, and no example that anybody could follow.
_URL = "https://files.example/data/eyJ0b2tlbiI6MX0"

_STATUS: dict[str, Any] = {
    "id": _ID,
    "status": "EXECUTION_COMPLETED",
    "name": "dot.png",
    "mimetype": "image/png",
    "size": 70,
    "processor": "image-variants",
    "params": {"widths": [16]},
    "attempt": 1,
    "createdAt": _AT[0],
    "updatedAt": _AT[3],
    "startedAt": _AT[2],
    "endedAt": _AT[3],
    "outputs": [
        {
            "name": "dot-16.webp",
            "mimetype": "image/webp",
            "size": 44,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "href": f"/api/v1/job/{_ID}/output/dot-16.webp",
        }
    ],
}
_STATES = ("CREATED", "STORED", "SUBMITTED", "EXECUTION_COMPLETED")
_HISTORY = [{"status": status, "at": at} for status, at in zip(_STATES, _AT, strict=True)]
_JOB = {**_STATUS, "history": _HISTORY, "expiresAt": "2026-12-27T08:00:03.000Z"}
_UPLOAD = {
    "kind": "single",
    "method": "PUT",
    "url": _URL,
    "headers": {"Content-Length": "5"},
    "size": 5,
    "parts": [],
    "expiresAt": "2026-11-27T09:00:00.000Z",
}
_WAITS = {
    **{key: value for key, value in _STATUS.items() if key not in ("attempt", "startedAt", "endedAt")},
    "id": _FILE_ID,
    "status": "CREATED",
    "name": "hello.txt",
    "mimetype": "text/plain",
    "size": 5,
    "processor": "checksum",
    "params": {},
    "batchId": _BATCH_ID,
    "updatedAt": _AT[0],
    "outputs": [],
    "history": _HISTORY[:1],
    "upload": _UPLOAD,
}
_CHECKSUM = {
    "name": "checksum",
    "version": "1.0.0",
    "summary": "The digest and the size of a file.",
    "mediaTypes": ["*/*"],
    "params": {"type": "object", "properties": {"algorithm": {"type": "string"}}, "additionalProperties": False},
    "live": True,
    "lastSeenAt": "2026-11-27T08:00:00.000Z",
    "maxBatchFiles": 1000,
    "byMediaType": {"*/*": {"maxBytes": 10737418240}},
}
_LIMITS = {
    "maxInputBytes": 10737418240,
    "maxJsonBytes": 8388608,
    "maxBatchFiles": 1000,
    "maxParamsBytes": 65536,
    "maxWaitSeconds": 60,
    "deadlineSeconds": 604800,
    "maxDeadlineSeconds": 2592000,
    "retentionSeconds": 2592000,
    "recordSeconds": 7776000,
}

BY_MODEL: dict[str, dict[str, Any]] = {
    "JobCreated": {"id": _ID, "status": "STORED"},
    "JobStatusView": _STATUS,
    "JobView": _JOB,
    "JobList": {"items": [_JOB], "next": None},
    "BatchView": {
        "id": _BATCH_ID,
        "name": "two scans",
        "counts": {"CREATED": 1},
        "items": [_WAITS],
        "next": None,
    },
    "UploadView": _UPLOAD,
    "BatchEnded": {"id": _BATCH_ID, "counts": {"EXECUTION_COMPLETED": 1}},
    "ProcessorList": {"items": [_CHECKSUM], "limits": _LIMITS},
    "Health": {"status": "ok"},
}
"""Of each model that a response has, by its name."""

EVENT = {"event": "status", "id": "4-0-3", "data": json.dumps(_STATUS)}
"""A server-sent event: its fields, as the page describes them."""

BATCH_REQUEST = {
    "processor": "checksum",
    "files": [{"name": "hello.txt", "size": 5, "mimetype": "text/plain"}],
}
UPLOAD_COMPLETE: dict[str, Any] = {"parts": []}
TEXT = "Hello, Gristmill."
FORM = {"processor": "checksum", "name": "hello.txt", "file": TEXT}

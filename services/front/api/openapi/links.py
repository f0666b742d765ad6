"""Which answer leads to which request (OpenAPI 3.1, Link Object): of each operation, by the status of its response."""

from typing import Any

_ID, _FIRST_ID = "$response.body#/id", "$response.body#/items/0/id"
_JOB = "$request.path.job_id"


def _of_job(job_id: str, *operations: str) -> dict[str, Any]:
    return {operation: {"operationId": operation, "parameters": {"job_id": job_id}} for operation in operations}


_AFTER_UPLOAD = _of_job(_JOB, "get_job_status", "watch_job", "cancel_job", "delete_job")

LINKS: dict[str, dict[str, dict[str, Any]]] = {
    "create_job": {
        "201": _of_job(_ID, "get_job", "get_job_status", "watch_job", "get_output", "cancel_job", "delete_job")
    },
    "list_jobs": {
        "200": {
            **_of_job(_FIRST_ID, "get_job", "get_job_status", "get_output", "cancel_job", "delete_job"),
            "list_jobs": {"operationId": "list_jobs", "parameters": {"cursor": "$response.body#/next"}},
        }
    },
    "get_job": {
        "200": {
            "get_named_output": {
                "operationId": "get_named_output",
                "parameters": {"job_id": _JOB, "output_name": "$response.body#/outputs/0/name"},
            },
            **_of_job(_JOB, "delete_job"),
        }
    },
    "get_job_status": {"200": _of_job(_JOB, "get_output")},
    "cancel_job": {"200": _of_job(_JOB, "get_job"), "202": _of_job(_JOB, "get_job_status")},
    "create_batch": {
        "201": {
            "get_batch": {"operationId": "get_batch", "parameters": {"batch_id": _ID}},
            "watch_batch": {"operationId": "watch_batch", "parameters": {"batch_id": _ID}},
            **_of_job(_FIRST_ID, "get_upload", "complete_upload"),
        }
    },
    "get_batch": {"200": _of_job(_FIRST_ID, "get_job")},
    "get_upload": {"200": _of_job(_JOB, "complete_upload")},
    "complete_upload": {"200": _AFTER_UPLOAD, "202": _AFTER_UPLOAD},
}

"""Jobs as the public API shows them."""

from typing import Any
from urllib.parse import quote

from common.contracts.upload import UploadPlan
from common.errors import TYPE_PREFIX
from common.failures import FAILURES
from gristmill.wire.processors import OfferedProcessor
from gristmill.wire.public import (
    MAX_BATCH_FILES,
    BatchItem,
    BatchView,
    ErrorView,
    JobStatusView,
    JobView,
    MediaLimitsView,
    OutputView,
    PartView,
    ProcessorView,
    StateView,
    UploadView,
)
from services.front.domain.job import JobError
from services.front.domain.limits import Limits
from services.front.use_cases.batch import BatchSnapshot
from services.front.use_cases.read import JobSnapshot

PREFIX = "/api/v1"


def job_href(job_id: str) -> str:
    return f"{PREFIX}/job/{job_id}"


def status_view(snapshot: JobSnapshot) -> JobStatusView:
    return JobStatusView.model_construct(**_status_fields(snapshot))


def job_view(snapshot: JobSnapshot) -> JobView:
    return JobView.model_construct(**_job_fields(snapshot))


def upload_view(plan: UploadPlan) -> UploadView:
    return UploadView.model_construct(
        kind=plan.kind,
        method=plan.method,
        url=plan.url,
        headers=plan.headers,
        size=plan.size,
        part_size=plan.part_size,
        parts=[PartView.model_construct(**part.model_dump()) for part in plan.parts],
        next=plan.next,
        expires_at=plan.expires_at,
    )


def processor_view(offer: OfferedProcessor, limits: Limits) -> ProcessorView:
    operators, takes = limits.of(offer.name), offer.limits.max_input_bytes
    by_media_type = {}
    for pattern in dict.fromkeys([*offer.media_types, *operators.by_media_type]):
        own = operators.by_media_type.get(pattern)
        by_media_type[pattern] = MediaLimitsView(
            max_bytes=limits.max_bytes(offer.name, pattern, takes), max_batch_files=own.max_batch_files if own else None
        )
    return ProcessorView(
        **{name: getattr(offer, name) for name in OfferedProcessor.model_fields},
        max_batch_files=min(MAX_BATCH_FILES, operators.max_batch_files or MAX_BATCH_FILES),
        by_media_type=by_media_type,
    )


def batch_view(snapshot: BatchSnapshot, cursor: str | None = None) -> BatchView:
    return BatchView.model_construct(
        id=snapshot.batch.id,
        name=snapshot.batch.name,
        counts={status.value: count for status, count in sorted(snapshot.counts.items())},
        items=[
            BatchItem.model_construct(
                **_job_fields(JobSnapshot(job)),
                upload=upload_view(snapshot.plans[job.id]) if job.id in snapshot.plans else None,
            )
            for job in snapshot.jobs
        ],
        next=cursor,
    )


def _job_fields(snapshot: JobSnapshot) -> Any:
    return {
        **_status_fields(snapshot),
        "history": [StateView.model_construct(status=status.value, at=at) for status, at in snapshot.job.history],
        "expires_at": snapshot.job.expires_at,
        "bytes_deleted": snapshot.job.bytes_deleted or None,
    }


def _status_fields(snapshot: JobSnapshot) -> Any:
    job = snapshot.job
    return {
        "id": job.id,
        "status": job.status.value,
        "stale": snapshot.stale or None,
        "cancel_requested": job.cancel_requested or None,
        "name": job.name,
        "mimetype": job.mimetype,
        "encoding": job.encoding,
        "size": job.size,
        "processor": job.processor,
        "params": dict(job.params),
        "deadline": job.deadline_seconds,
        "batch_id": job.batch_id,
        "phase": job.phase,
        "progress": job.progress,
        "attempt": job.attempt,
        "queue_position": job.queue_position,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "outputs": [
            OutputView.model_construct(
                name=output.name,
                mimetype=output.mimetype,
                size=output.size,
                sha256=output.sha256,
                href=f"{job_href(job.id)}/output/{quote(output.name, safe='')}",
            )
            for output in job.outputs
        ],
        "output_count": job.output_count,
        "outputs_href": job_href(job.id) if job.output_count is not None else None,
        "error": _error_view(job.error) if job.error else None,
    }


def _error_view(error: JobError) -> ErrorView:
    failure = FAILURES.get(error.type, FAILURES["internal"])
    return ErrorView.model_construct(
        type=TYPE_PREFIX + failure.slug,
        title=failure.title,
        detail=error.detail,
        fault="user" if failure.users_fault else "server",
    )

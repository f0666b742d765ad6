"""Uploads, as front asks for them: plans with signed URLs, and what became of them. Under `/api/v1`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from common.contracts.upload import CompleteUpload, PlanUploads, UploadPlans, UploadStatusAnswer, UploadStatusQuery
from common.web.access import callers
from common.web.bodies import json_body
from gristmill.wire.base import Wire
from services.blob import use_cases
from services.blob.domain import ids
from services.blob.ports import UploadStore

# A thousand uploads with the longest labels, and as much again.
MAX_JSON_BYTES = 8 * 1024 * 1024


def upload_routes(uploads: UploadStore, *, max_blob_bytes: int, stall_seconds: float) -> APIRouter:
    """The routes, over `uploads`. A body that sends nothing for `stall_seconds` is broken off."""
    plan_body = json_body(PlanUploads, MAX_JSON_BYTES, stall_seconds)
    status_body = json_body(UploadStatusQuery, MAX_JSON_BYTES, stall_seconds)
    complete_body = json_body(CompleteUpload, MAX_JSON_BYTES, stall_seconds)
    router = APIRouter(prefix="/api/v1/upload", tags=["upload"], dependencies=[Depends(callers("front"))])

    @router.post("", summary="What has arrived of each upload, and URLs for the rest")
    async def plan(body: Annotated[PlanUploads, Depends(plan_body)]) -> Response:
        plans = await use_cases.plan_uploads(uploads, body.uploads, max_bytes=max_blob_bytes)
        return _answer(UploadPlans(items=plans))

    @router.post("/status", summary="Where uploads are")
    async def status(body: Annotated[UploadStatusQuery, Depends(status_body)]) -> Response:
        return _answer(UploadStatusAnswer(items=await use_cases.upload_statuses(uploads, body.uploads)))

    @router.post("/{upload_id}/complete", summary="Make the blob; 202 while it is being verified")
    async def complete(upload_id: str, body: Annotated[CompleteUpload, Depends(complete_body)]) -> Response:
        completed = await use_cases.complete_upload(uploads, upload_id, body.facts, body.parts)
        return _answer(completed, 202 if completed.state == "VERIFYING" else 200)

    @router.delete("/{upload_id}", status_code=204, summary="Abort an upload, or forget its mismatch")
    async def abort(upload_id: str) -> None:
        ids.check_known(upload_id)
        await uploads.abort(upload_id)

    return router


def _answer(body: Wire, status: int = 200) -> Response:
    return Response(body.to_wire(), status, media_type="application/json")

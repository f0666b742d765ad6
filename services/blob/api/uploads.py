"""Uploads, as front asks for them: plans with signed URLs, and what became of them. Under `/api/v1`."""

from fastapi import APIRouter, Depends, Response

from common.contracts import Wire
from common.contracts.upload import CompleteUpload, PlanUploads, UploadPlans, UploadStatusAnswer, UploadStatusQuery
from common.web.access import callers
from services.blob import use_cases
from services.blob.domain import ids
from services.blob.ports import UploadStore


def upload_routes(uploads: UploadStore, *, max_blob_bytes: int) -> APIRouter:
    """The routes, over `uploads`."""
    router = APIRouter(prefix="/api/v1/upload", tags=["upload"], dependencies=[Depends(callers("front"))])

    @router.post("", summary="What has arrived of each upload, and URLs for the rest")
    async def plan(body: PlanUploads) -> Response:
        plans = await use_cases.plan_uploads(uploads, body.uploads, max_bytes=max_blob_bytes)
        return _answer(UploadPlans(items=plans))

    @router.post("/status", summary="Where uploads are")
    async def status(body: UploadStatusQuery) -> Response:
        return _answer(UploadStatusAnswer(items=await use_cases.upload_statuses(uploads, body.uploads)))

    @router.post("/{upload_id}/complete", summary="Make the blob; 202 while it is being verified")
    async def complete(upload_id: str, body: CompleteUpload) -> Response:
        completed = await use_cases.complete_upload(uploads, upload_id, body.facts, body.parts)
        return _answer(completed, 202 if completed.state == "VERIFYING" else 200)

    @router.delete("/{upload_id}", status_code=204, summary="Abort an upload, or forget its mismatch")
    async def abort(upload_id: str) -> None:
        ids.check_known(upload_id)
        await uploads.abort(upload_id)

    return router


def _answer(body: Wire, status: int = 200) -> Response:
    return Response(body.to_wire(), status, media_type="application/json")

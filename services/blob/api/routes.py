"""blob's HTTP API, `/api/v1`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from common.contracts.blob import LABELS_HEADER, BlobInfo, BlobLabels, BlobList, BlobListItem
from common.errors import Malformed
from common.ids import new_id
from common.web.access import callers
from common.web.bodies import declared_size, stream
from services.blob import use_cases
from services.blob.api.bodies import BlobResponse, describing_headers
from services.blob.domain import ids
from services.blob.domain.digests import entity_tag, parse_content_digest
from services.blob.domain.ranges import parse_range
from services.blob.ports import BlobStore

PAGE_BLOBS = 1_000


def blob_routes(store: BlobStore, *, max_blob_bytes: int, stall_seconds: float) -> APIRouter:
    """The routes, over `store`. An upload that sends nothing for `stall_seconds` is broken off."""
    router = APIRouter(prefix="/api/v1", tags=["blob"])
    readers_and_writers = [Depends(callers("front", "processor"))]
    only_front = [Depends(callers("front"))]

    async def write(blob_id: str, request: Request) -> Response:
        written = await use_cases.write(
            store,
            blob_id,
            stream(request, stall_seconds),
            size=declared_size(request),
            sha256=parse_content_digest(request.headers.get("content-digest")),
            max_bytes=max_blob_bytes,
            labels=_labels(request),
        )
        info = BlobInfo(id=written.id, size=written.size, sha256=written.sha256)
        return Response(info.to_wire(), 201 if written.created else 200, media_type="application/json")

    @router.put("/blob/{blob_id}", dependencies=readers_and_writers, summary="Write a blob, once")
    async def put_blob(blob_id: str, request: Request) -> Response:
        return await write(blob_id, request)

    @router.post("/blob", dependencies=readers_and_writers, summary="Write a blob under a new id")
    async def post_blob(request: Request) -> Response:
        return await write(new_id(), request)

    @router.get("/blob/{blob_id}", dependencies=readers_and_writers, summary="Read a blob, or a range of it")
    async def get_blob(blob_id: str, request: Request) -> Response:
        ids.check_known(blob_id)
        opened = await store.open(blob_id)
        try:
            byte_range = request.headers.get("range")
            if request.headers.get("if-range", entity_tag(opened.blob.sha256)) != entity_tag(opened.blob.sha256):
                byte_range = None
            return BlobResponse(opened, parse_range(byte_range, opened.blob.size))
        except BaseException:
            opened.close()
            raise

    @router.head("/blob/{blob_id}", dependencies=readers_and_writers, summary="A blob's size, digest and time")
    async def head_blob(blob_id: str) -> Response:
        ids.check_known(blob_id)
        return Response(headers=describing_headers(await store.stat(blob_id)))

    @router.delete("/blob/{blob_id}", dependencies=only_front, status_code=204, summary="Delete a blob")
    async def delete_blob(blob_id: str) -> None:
        ids.check_known(blob_id)
        await store.delete(blob_id)

    @router.get("/blob", dependencies=only_front, summary="List blobs in the store's own order")
    async def list_blobs(
        prefix: str = "", after: str = "", limit: Annotated[int, Query(ge=1, le=PAGE_BLOBS)] = PAGE_BLOBS
    ) -> Response:
        page, following = await use_cases.list_page(store, prefix, after, limit)
        items = [BlobListItem(id=blob.id, stored_at=blob.stored_at) for blob in page]
        return Response(BlobList(items=items, next=following).to_wire(), media_type="application/json")

    return router


def _labels(request: Request) -> BlobLabels | None:
    header = request.headers.get(LABELS_HEADER)
    try:
        return None if header is None else BlobLabels.from_header(header)
    except ValueError:
        raise Malformed(f"{LABELS_HEADER} can't be read.") from None

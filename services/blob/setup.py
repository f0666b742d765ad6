"""`python -m services.blob.setup`: makes the bucket ready for blob, and prints the rights that blob then needs.

It may be run again at any time, also on a bucket that holds blobs. Its own rights are those of whoever runs it.
"""

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import aioboto3
from botocore.exceptions import BotoCoreError, ClientError

from common.settings import load
from services.blob.adapters.s3.bucket import S3Options, open_client
from services.blob.app import s3_options
from services.blob.settings import StoreSettings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_RULES: list[dict[str, Any]] = [
    {
        "ID": "gristmill-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": "uploads/"},
        "Expiration": {"Days": 30},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 30},
    },
    {
        # blob's own sweeper sees to these within hours; this is for a blob that is gone.
        "ID": "gristmill-writes",
        "Status": "Enabled",
        "Filter": {"Prefix": "blobs/"},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
    },
]
_WITHOUT = "With BLOB_S3_CONDITIONAL_WRITES=false blob looks before it writes, which is enough for one blob process."
_NOT_OFFERED = {"NotImplemented", "MethodNotAllowed"}


class SetupError(Exception):
    """The bucket can't be used; the message says why."""


class SetupSettings(StoreSettings):
    """The settings of the setup. There is nothing to set up for the other store."""

    store: Literal["s3"] = "s3"


async def set_up(options: S3Options, origins: list[str], session: aioboto3.Session | None = None) -> None:
    """Make the bucket, its CORS and lifecycle rules, and try what blob relies on. Raises `SetupError`."""
    try:
        async with open_client(options, options.endpoint, session) as client:
            await _make_bucket(client, options)
            if origins:
                await _allow_origins(client, options.bucket, origins)
            await _set_lifecycle(client, options.bucket)
            if options.conditional_writes:
                await _try_create_only(client, options)
    except (ClientError, BotoCoreError) as error:
        raise SetupError(f"{options.bucket}: {error}") from error


def least_policy(options: S3Options) -> dict[str, Any]:
    """The least rights that blob runs with, as an IAM policy."""
    bucket = f"arn:aws:s3:::{options.bucket}"
    objects = ["GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts"]
    statements = [
        _allow([f"{bucket}/blobs/*", f"{bucket}/uploads/*"], [f"s3:{action}" for action in objects]),
        _allow([bucket], ["s3:ListBucket", "s3:ListBucketMultipartUploads"]),
    ]
    if options.sse == "aws:kms" and (key := options.sse_kms_key_id):  # the account's own key asks for no rights
        arn = key if key.startswith("arn:") else f"arn:aws:kms:{options.region}:*:key/{key}"
        statements.append(_allow([arn], ["kms:Decrypt", "kms:GenerateDataKey"]))
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(resources: list[str], actions: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


async def _make_bucket(client: "S3Client", options: S3Options) -> None:
    # AWS takes every region's name here but that of its first one.
    place: Any = {} if options.region == "us-east-1" else {"LocationConstraint": options.region}
    try:
        await client.create_bucket(Bucket=options.bucket, **({"CreateBucketConfiguration": place} if place else {}))
    except ClientError as error:
        if _code(error) != "BucketAlreadyOwnedByYou":
            raise


async def _allow_origins(client: "S3Client", bucket: str, origins: list[str]) -> None:
    rule: Any = {
        "AllowedMethods": ["PUT"],
        "AllowedOrigins": origins,
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3600,
    }
    try:
        await client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    except ClientError as error:
        if _code(error) not in _NOT_OFFERED:
            raise
        _say("This store takes no CORS rules by S3's API: allow PUT from those origins, and ETag, in its own way.")


async def _set_lifecycle(client: "S3Client", bucket: str) -> None:
    """Add our rules; those that somebody else has made stay."""
    rules: list[Any] = []
    try:
        rules = list((await client.get_bucket_lifecycle_configuration(Bucket=bucket)).get("Rules", []))
    except ClientError as error:
        if _code(error) != "NoSuchLifecycleConfiguration":
            raise
    ours = {rule["ID"] for rule in _RULES}
    rules = [rule for rule in rules if rule.get("ID") not in ours] + _RULES
    await client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})


async def _try_create_only(client: "S3Client", options: S3Options) -> None:
    """Raises `SetupError` where `If-None-Match: *` is not kept: blobs could be overwritten there."""
    where: Any = {"Bucket": options.bucket, "Key": f"uploads/setup-{uuid4()}"}
    await client.put_object(**where, Body=b"x", IfNoneMatch="*", **options.encryption())
    try:
        if not await _is_refused(client.put_object(**where, Body=b"y", IfNoneMatch="*", **options.encryption())):
            raise SetupError(f"This store ignores If-None-Match on PUT. {_WITHOUT}")
        upload: Any = {"UploadId": (await client.create_multipart_upload(**where, **options.encryption()))["UploadId"]}
        try:
            part = await client.upload_part(**where, **upload, PartNumber=1, Body=b"y")
            parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            complete = client.complete_multipart_upload(**where, **upload, MultipartUpload=parts, IfNoneMatch="*")
            if not await _is_refused(complete):
                raise SetupError(f"This store ignores If-None-Match on CompleteMultipartUpload. {_WITHOUT}")
        finally:
            await client.abort_multipart_upload(**where, **upload)
    finally:
        await client.delete_object(**where)


async def _is_refused(call: Any) -> bool:
    try:
        await call
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
            raise
        return True
    return False


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - this is a command


def main() -> int:
    variables = "\n".join(
        f"  BLOB_{name.upper():<20} {of.description}" for name, of in SetupSettings.model_fields.items()
    )
    argparse.ArgumentParser(
        prog="python -m services.blob.setup",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog="Its settings come from the environment, and its credentials from where all tools of AWS find theirs."
        f"\n\n{variables}",
    ).parse_args()
    settings = load(SetupSettings)
    options = s3_options(settings)
    try:
        asyncio.run(set_up(options, settings.upload_origins))
    except SetupError as error:
        _say(str(error))
        return 1
    _say(f"{options.bucket} is ready. These are the least rights that blob needs on it:")
    print(json.dumps(least_policy(options), indent=2))  # noqa: T201 - likewise
    return 0


if __name__ == "__main__":
    sys.exit(main())

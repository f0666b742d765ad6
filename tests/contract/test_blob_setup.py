"""The setup of a bucket, against a real S3."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from common.ids import new_id
from deploy.local.seaweed import Seaweed
from services.blob.adapters.s3.bucket import open_client
from services.blob.setup import SetupError, least_policy, set_up
from tests.contract.test_blob_store import put
from tests.support.s3 import TestBucket, options_for, session_for


@pytest.fixture
async def bucket(s3: Seaweed) -> AsyncIterator[TestBucket]:
    """One that isn't there yet."""
    options, session = options_for(s3, f"test-{new_id()}"), session_for(s3)
    async with open_client(options, options.endpoint, session) as client:
        made = TestBucket(client, session, options)
        yield made
        await made.empty()
        await client.delete_bucket(Bucket=options.bucket)


async def test_it_makes_a_bucket_that_blob_works_with_and_may_be_run_again(bucket: TestBucket) -> None:
    for _ in range(2):
        await set_up(bucket.options, [], bucket.session)
    assert await bucket.keys() == []
    assert await bucket.unfinished_uploads() == []
    async with bucket.open_store() as store:
        await store.check()
        assert (await put(store, "b-1", b"x")).created
    await set_up(bucket.options, [], bucket.session)
    assert await bucket.keys() == ["blobs/b-1"]


async def test_rules_of_others_stay(bucket: TestBucket) -> None:
    await bucket.client.create_bucket(Bucket=bucket.name)
    await bucket.client.put_bucket_lifecycle_configuration(
        Bucket=bucket.name,
        LifecycleConfiguration={
            "Rules": [{"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}]
        },
    )
    for _ in range(2):
        await set_up(bucket.options, [], bucket.session)
    rules = (await bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.name))["Rules"]
    assert sorted(rule["ID"] for rule in rules) == ["gristmill-uploads", "gristmill-writes", "theirs"]
    (uploads,) = (rule for rule in rules if rule["ID"] == "gristmill-uploads")
    assert uploads["Expiration"]["Days"] == uploads["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 30


async def test_pages_of_the_origins_may_send_and_others_may_not(bucket: TestBucket) -> None:
    await set_up(bucket.options, ["https://app.example.org"], bucket.session)
    url = f"{bucket.options.endpoint}/{bucket.name}/uploads/i-1"
    async with httpx.AsyncClient(trust_env=False) as http:
        for origin, allowed in (("https://app.example.org", True), ("https://other.example.org", False)):
            asked = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
            answer = await http.options(url, headers=asked)
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


async def test_wrong_credentials_are_one_sentence(bucket: TestBucket, s3: Seaweed) -> None:
    await bucket.client.create_bucket(Bucket=bucket.name)
    with pytest.raises(SetupError, match=bucket.name):
        await set_up(bucket.options, [], session_for(replace(s3, secret="wrong")))


async def test_the_command_prints_nothing_but_the_policy(bucket: TestBucket, s3: Seaweed) -> None:
    told = {"BLOB_S3_ENDPOINT": s3.endpoint, "BLOB_S3_BUCKET": bucket.name, **s3.credentials()}
    done = subprocess.run(  # noqa: ASYNC221 - nothing else has to go on meanwhile
        [sys.executable, "-m", "services.blob.setup"],
        env={"PATH": os.environ["PATH"], **told},
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(done.stdout) == least_policy(bucket.options)


def test_the_policy_names_nothing_but_this_bucket_and_its_key(s3: Seaweed) -> None:
    options = replace(options_for(s3, "files"), sse="aws:kms", sse_kms_key_id="arn:aws:kms:eu-west-1:1:key/k")
    statements = least_policy(options)["Statement"]
    resources = {resource for statement in statements for resource in statement["Resource"]}
    assert resources == {
        "arn:aws:s3:::files",
        "arn:aws:s3:::files/blobs/*",
        "arn:aws:s3:::files/uploads/*",
        "arn:aws:kms:eu-west-1:1:key/k",
    }
    assert not any("*" in action for statement in statements for action in statement["Action"])

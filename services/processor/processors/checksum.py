"""`checksum`: the smallest processor, and the one to copy for a new one."""

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from gristmill import Context, InputFile, Output, Params, Processor


class ChecksumParams(Params):
    algorithm: Literal["sha256", "sha512", "blake2b", "md5"] = Field("sha256", description="The hash function.")


class Checksum(Processor[ChecksumParams]):
    """Gives `checksum.json`: `{"algorithm", "digest" (hex), "size" (bytes)}`."""

    name = "checksum"
    version = "1.0.0"
    summary = "The checksum of a file, as JSON."
    media_types = ("*/*",)
    params_model = ChecksumParams

    def process(self, file: InputFile, params: ChecksumParams, context: Context) -> Sequence[Output]:
        with file.path.open("rb") as source:
            # MD5 is offered to compare with sums that others publish, not to protect anything.
            digest = hashlib.file_digest(source, lambda: hashlib.new(params.algorithm, usedforsecurity=False))
        path = context.new_file("checksum.json")
        path.write_text(json.dumps({"algorithm": params.algorithm, "digest": digest.hexdigest(), "size": file.size}))
        return [Output("checksum.json", "application/json", path)]

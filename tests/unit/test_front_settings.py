"""What an operator sets is checked at the start, and a fault names its variable."""

import json
from pathlib import Path

import pytest

from common.settings import load
from services.front.settings import Settings

NEEDED = {
    "FRONT_KEY_FILE": "front.pem",
    "FRONT_CALLERS_DIR": "callers",
    "FRONT_MONGODB_URI": "mongodb://db",
    "FRONT_BLOB_URL": "http://blob",
    "FRONT_JOB_URL": "http://job",
    "FRONT_TOKEN_ALGORITHMS": '["EdDSA"]',
    "FRONT_TOKEN_PUBLIC_KEY_FILE": "issuer.pem",
    "FRONT_TOKEN_AUDIENCE": "gristmill",
    "FRONT_TOKEN_ISSUER": "issuer",
}
LIMITS = {"image-variants": {"image/*": {"maxBytes": 1_000_000, "maxBatchFiles": 100}, "maxBatchFiles": 500}}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def test_limits_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONT_LIMITS", json.dumps(LIMITS))
    (limits,) = load(Settings).limits.values()
    assert limits.max_batch_files == 500
    assert limits.by_media_type["image/*"].max_bytes == 1_000_000


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("FRONT_LIMITS", "{", "FRONT_LIMITS"),
        ("FRONT_LIMITS", '{"checksum": 1}', "FRONT_LIMITS_CHECKSUM"),
        ("FRONT_LIMITS", '{"checksum": {"maxBytes": 1}}', "maxBatchFiles"),
        ("FRONT_LIMITS", '{"checksum": {"Image/*": {}}}', "lower case"),
        ("FRONT_LIMITS", '{"checksum": {"image/*": {"maxBytes": 0}}}', "FRONT_LIMITS_CHECKSUM_IMAGE/*_MAXBYTES"),
        ("FRONT_LIMITS", '{"checksum": {"image/*": {"most": 1}}}', "FRONT_LIMITS_CHECKSUM_IMAGE/*_MOST"),
        ("FRONT_LIMITS", '{"checksum": {"maxBatchFiles": 0}}', "FRONT_LIMITS_CHECKSUM_MAXBATCHFILES"),
        ("FRONT_RETENTION_SECONDS", "0", "FRONT_RETENTION_SECONDS"),
        ("FRONT_RECORD_SECONDS", "86400", "FRONT_RECORD_SECONDS"),
        ("FRONT_IDEMPOTENCY_SECONDS", "7776001", "FRONT_IDEMPOTENCY_SECONDS"),
    ],
)
def test_a_fault_names_its_variable_and_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, named: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load(Settings)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err

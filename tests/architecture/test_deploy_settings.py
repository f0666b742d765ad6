"""Containers: each is told settings that exist, all that it needs, and no more secrets than are its own."""

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from deploy import credentials
from services.blob.settings import Settings as BlobSettings
from services.blob.setup import SetupSettings
from services.front.settings import Settings as FrontSettings
from services.front.settings import TrackerSettings
from services.job.settings import Settings as JobSettings
from services.processor.settings import Settings as ProcessorSettings
from tests.architecture import deployed
from tests.architecture.deployed import PROCESSES, Told

KINDS: dict[str, type[BaseSettings]] = {
    "front": FrontSettings,
    "tracker": TrackerSettings,
    "blob": BlobSettings,
    "s3-setup": SetupSettings,
    "job": JobSettings,
    "processor": ProcessorSettings,
}
PREFIXES = ("FRONT_", "BLOB_", "JOB_", "PROCESSOR_")
S3_KEYS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
# What each may see of Secrets, at the most. That of blob for S3 is the operator's to make.
OWN = {
    "front": {("front", "key.pem"), ("front", "mongodb-uri"), ("front", "users.secret")},
    "tracker": {("front", "key.pem"), ("front", "mongodb-uri")},
    "blob": {("blob", "uploads.secret"), ("blob-s3", "access-key-id"), ("blob-s3", "secret-access-key")},
    "job": {("job", "key.pem"), ("job", "mongodb-uri")},
    "processor": {("processor", "key.pem")},
    "mongodb": {("mongodb", f"{name}password") for name in ("root-", "front-", "job-")} | {("mongodb", "key")},
}
CASES = [
    *(pytest.param("compose", name, id=f"compose-{name}") for name in KINDS),
    *(pytest.param(over, name, id=f"{over}-{name}") for over in ("dev", "prod") for name in PROCESSES),
]


def told(where: str, process: str) -> Told:
    if where == "compose":
        return deployed.told_by_compose(process)
    return deployed.told_by_kubernetes(deployed.overlay(where), process)


def with_image(where: str, process: str) -> dict[str, str]:
    """All that the process is told, by its image too."""
    target = "blob" if process == "s3-setup" else process
    return {**deployed.image_variables(target), **told(where, process).variables}


@pytest.mark.parametrize(("where", "process"), CASES)
def test_every_variable_is_a_setting_of_its_process(where: str, process: str) -> None:
    known = {f"{KINDS[process].model_config['env_prefix']}{name}".upper() for name in KINDS[process].model_fields}
    if process == "s3-setup":  # what the image says of blob is there too
        known |= {"BLOB_HOST", "BLOB_DATA_DIR"}
    allowed = known | (S3_KEYS if process in ("blob", "s3-setup") else set())
    assert with_image(where, process).keys() <= allowed


@pytest.mark.parametrize(("where", "process"), CASES)
def test_every_process_can_read_its_settings(
    where: str, process: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "uploads.secret"
    key.write_bytes(bytes(32))
    for name, value in with_image(where, process).items():
        monkeypatch.setenv(name, str(key) if name == "BLOB_UPLOAD_KEY_FILE" else value)
    KINDS[process]()


@pytest.mark.parametrize(("where", "process"), CASES)
def test_every_file_that_is_named_is_given(where: str, process: str) -> None:
    given = told(where, process)
    named = {name: value for name, value in given.variables.items() if name.endswith("_FILE")}
    folders = {name: value for name, value in given.variables.items() if name.endswith("_DIR")}
    assert set(named.values()) == given.files
    assert set(folders.values()) <= given.folders


def test_compose_gives_each_process_its_own_secrets_only() -> None:
    given = {name: {secret for _, secret in told("compose", name).secrets} for name in KINDS}
    assert given == {
        "front": {"front.pem", "users.secret"},
        "tracker": {"front.pem"},
        "blob": set(),
        "s3-setup": set(),
        "job": {"job.pem"},
        "processor": {"processor.pem"},
    }


@pytest.mark.parametrize("where", ["dev", "prod"])
def test_kubernetes_gives_each_pod_its_own_secrets_only(where: str) -> None:
    objects = deployed.overlay(where)
    for name in deployed.pods(objects):
        assert deployed.told_by_kubernetes(objects, name).secrets <= OWN[name], name


def test_what_dev_refers_to_is_made_and_nothing_else(tmp_path: Path) -> None:
    settings = credentials.CredentialSettings(gristmill_data=tmp_path, env_file=tmp_path / ".env")
    credentials.make(settings)
    made = deployed.read_json(tmp_path / "kubernetes.json")["items"]
    secrets = {(each["metadata"]["name"], key) for each in made if each["kind"] == "Secret" for key in each["data"]}
    objects = deployed.overlay("dev")
    asked = set[tuple[str, str]]().union(
        *(deployed.told_by_kubernetes(objects, name).secrets for name in deployed.pods(objects))
    )
    assert secrets == asked
    maps = {each["metadata"]["name"] for each in made if each["kind"] == "ConfigMap"}
    mounted = {
        volume["configMap"]["name"]
        for pod in deployed.pods(objects).values()
        for volume in pod["volumes"]
        if "configMap" in volume
    }
    assert maps == mounted - deployed.of_kind(objects, "ConfigMap").keys()


@pytest.mark.parametrize("where", ["dev", "prod"])
def test_no_manifest_holds_a_secret(where: str) -> None:
    objects = deployed.overlay(where)
    assert deployed.of_kind(objects, "Secret") == {}
    for name, pod in deployed.pods(objects).items():
        plain = {each["name"] for each in pod["containers"][0].get("env", []) if "value" in each}
        assert plain <= {"HOME", "MONGODB_HOST", "MONGO_INITDB_ROOT_USERNAME", "BLOB_UPLOAD_KEY_FILE"}, name


def test_secrets_made_again_stay_as_they_are(tmp_path: Path) -> None:
    settings = credentials.CredentialSettings(gristmill_data=tmp_path / "data", env_file=tmp_path / ".env")
    credentials.make(settings)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    credentials.make(settings)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    # Compose mounts single files, which the user of the containers has to read; nobody else comes that far here.
    assert (tmp_path / "data" / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "data" / "keys").glob("*.pem")} == {0o444}

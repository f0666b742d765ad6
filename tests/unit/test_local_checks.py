"""What a stranger is told before anything is started, and the tokens and keys of a Gristmill on one machine."""

import asyncio
import os
import re
import socket
import stat
from pathlib import Path

import jwt
import pytest

from common.auth import ServiceTokenSigner, ServiceTokenVerifier
from deploy.local import keys, tokens
from deploy.local.checks import CheckError, check_mongodb, check_names, check_ports, check_room, is_free, only_one
from deploy.local.mongod import free_port
from deploy.local.processes import services
from deploy.local.settings import LocalSettings


def test_a_taken_port_is_one_sentence_that_names_its_setting() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CheckError, match=rf"^Port {port} \(BLOB_PORT\) is taken: [^\n]*\.$"):
            check_ports({"BLOB_PORT": ("127.0.0.1", port)})
    assert is_free("127.0.0.1", port)


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_is_elsewhere_is_not_called_a_taken_port(host: str) -> None:
    with pytest.raises(CheckError, match=rf"^{host} is no address of this machine: set FRONT_HOST [^\n]*\.$"):
        check_ports({"FRONT_PORT": (host, 0)})


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("FRONT_RATE_REQESTS", "FRONT_RATE_REQUESTS"),
        ("PROCESSOR_SLOT", "PROCESSOR_SLOTS"),
        ("BLOB_S3_ENDPIONT", "BLOB_S3_ENDPOINT"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_one_that_was_meant(misspelt: str, meant: str) -> None:
    with pytest.raises(CheckError, match=f"There is no setting `{misspelt}`. Did you mean `{meant}`?"):
        check_names({"PATH": "/bin", misspelt: "1"})
    check_names({"PATH": "/bin", meant: "1", "FRONT_PORT": "8000", "JOB_TENANTS": "{}", "JOB_NAME": "a build server's"})


def test_two_settings_cannot_name_the_same_port() -> None:
    with pytest.raises(CheckError, match=r"^BLOB_PORT and JOB_PORT are both 1024: "):
        check_ports({"BLOB_PORT": ("127.0.0.1", 1024), "JOB_PORT": ("127.0.0.1", 1024)})


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "mongodb://ann:canary%40x@127.0.0.1:{port}/?replicaSet=canary",
            "mongodb://127.0.0.1:{port}/, can't be reached",
        ),
        ("mongodb://ann:canary@127.0.0.1:canary/", "can't be used"),
        ("http://127.0.0.1/canary", "can't be used"),
    ],
    ids=["unreachable", "unreadable", "other"],
)
def test_a_mongodb_that_cannot_be_used_is_named_without_its_password(uri: str, said: str) -> None:
    port = free_port()
    with pytest.raises(
        CheckError, match=rf"^MONGODB_URI[^\n]* {re.escape(said.format(port=port))}[^\n]*\.$"
    ) as refused:
        check_mongodb(uri.format(port=port))
    assert "canary" not in str(refused.value)
    assert "ann" not in str(refused.value)


async def test_a_mongodb_that_refuses_its_user_is_named_without_the_password(mongodb_uri: str) -> None:
    uri = mongodb_uri.replace("//", "//ann:canary@")
    with pytest.raises(CheckError, match=r"^MONGODB_URI, mongodb://127[^\n]*, refuses the user") as refused:
        await asyncio.to_thread(check_mongodb, uri)
    assert "canary" not in str(refused.value)


def test_no_room_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r"^There is no room: [^\n]*\.$"):
        check_room(tmp_path / "data", needed_bytes=2**60)
    check_room(tmp_path / "data", needed_bytes=1)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckError, match=r"can't hold the data [^\n]*GRISTMILL_DATA"):
        check_room(tmp_path / "file" / "data")


def test_the_data_belong_to_one_runner_at_a_time(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(CheckError, match=r"^Gristmill runs already "), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_token_says_who_bears_it_and_until_when(tmp_path: Path) -> None:
    secret = keys.ensure(tmp_path).users_secret
    token = tokens.make(secret, "acme", "alice", 60, tokens.parse_claims('{"email": "alice@example.org"}'))
    claims = jwt.decode(token, secret.read_text(), algorithms=["HS256"], audience="gristmill", issuer="gristmill-local")
    assert (claims["tid"], claims["sub"], claims["email"]) == ("acme", "alice", "alice@example.org")
    assert claims["exp"] - claims["iat"] == 60


@pytest.mark.parametrize("text", ['{"sub": "mallory"}', '{"exp": 9e9}', "[]", '{"email":', "null"])
def test_claims_that_cannot_be_taken_are_one_sentence(text: str) -> None:
    with pytest.raises(tokens.TokenError, match=r"^CLAIMS [^\n]*\.$"):
        tokens.parse_claims(text)


def test_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    made = keys.ensure(tmp_path)
    contents = {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}
    assert keys.ensure(tmp_path) == made
    assert {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()} == contents
    assert len(made.users_secret.read_text()) >= 32
    for secret in (made.users_secret, *map(made.private, ("front", "job", "processor"))):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("service", "caller"),
    [("blob", "front"), ("blob", "processor"), ("job", "front"), ("job", "processor"), ("front", "job")],
)
def test_each_service_knows_its_callers(tmp_path: Path, service: str, caller: str) -> None:
    made = keys.ensure(tmp_path)
    token = ServiceTokenSigner.from_file(caller, made.private(caller)).token(service)
    verifier = ServiceTokenVerifier.from_folder(service, made.callers_of(service))
    assert verifier.caller(f"Bearer {token}") == caller


def test_a_public_half_follows_its_private_key(tmp_path: Path) -> None:
    keys.ensure(tmp_path).private("job").unlink()
    test_each_service_knows_its_callers(tmp_path, "front", "job")


def test_processes_are_told_their_own_settings_and_nothing_else_of_ours(tmp_path: Path) -> None:
    settings = LocalSettings(gristmill_data=tmp_path, processors=2, job_port=9002)
    environment = {"PATH": os.environ["PATH"], "JOB_LEASE_SECONDS": "3", "AWS_SECRET_ACCESS_KEY": "x", "BLOB_PORT": ""}
    started = {each.name: each for each in services(settings, keys.ensure(tmp_path), "mongodb://db", environment)}
    assert set(started) == {"blob", "job", "front", "tracker", "processor-1", "processor-2"}
    assert started["job"].environment["JOB_LEASE_SECONDS"] == "3"
    assert started["tracker"].environment == started["front"].environment
    assert started["front"].environment["FRONT_JOB_URL"] == "http://127.0.0.1:9002"
    assert started["blob"].environment["BLOB_PORT"] == "8001"
    assert not any("JOB_LEASE_SECONDS" in each.environment for each in started.values() if each.name != "job")
    assert not any("AWS_SECRET_ACCESS_KEY" in each.environment for each in started.values())


def test_only_blob_is_told_of_the_users_own_s3(tmp_path: Path) -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "x", "BLOB_S3_BUCKET": "mine"}
    settings = LocalSettings(gristmill_data=tmp_path, blob_store="s3", blob_s3_endpoint="https://s3.example.org")
    started = {each.name: each for each in services(settings, keys.ensure(tmp_path), "mongodb://db", environment)}
    told = started.pop("blob").environment
    assert (told["BLOB_STORE"], told["BLOB_S3_BUCKET"], told["AWS_SECRET_ACCESS_KEY"]) == ("s3", "mine", "x")
    assert not any("AWS_SECRET_ACCESS_KEY" in each.environment for each in started.values())


def test_the_embedded_s3_has_a_key_of_its_own(tmp_path: Path) -> None:
    made = keys.ensure(tmp_path)
    settings = LocalSettings(gristmill_data=tmp_path, blob_store="s3")
    started = {each.name: each for each in services(settings, made, "mongodb://db", {"AWS_SECRET_ACCESS_KEY": "x"})}
    assert started["blob"].environment["AWS_SECRET_ACCESS_KEY"] == made.s3_secret.read_text()
    assert started["blob"].environment["BLOB_S3_ENDPOINT"] == f"http://127.0.0.1:{settings.s3_port}"

"""Users' tokens: what is let in, what is not, and how long a verdict and a key last."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Unauthorized, Unavailable
from services.front.adapters.user_tokens import CACHE_SECONDS, JwksKeys, StaticKeys, UserTokens
from services.front.domain.job import Owner

AUDIENCE, ISSUER = "gristmill", "https://issuer.example"
SECRET = b"a secret of more than thirty-two bytes, for tests"
NO_TIMES: list[Any] = ["soon", "9999999999", True, [9999999999], {}, float("nan"), float("inf"), 1e400, ""]
ALICE = Owner("acme", "alice")
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_PEM = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Clock:
    """A time that only passes when it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class CountedKeys(StaticKeys):
    """How often a key was asked for is how often a token was really verified."""

    asked = 0

    async def find(self, kid: str | None) -> Any:
        self.asked += 1
        return await super().find(kid)


class Issuer:
    """An issuer that publishes keys, may be away, and counts how often it is asked."""

    def __init__(self, **keys: ed25519.Ed25519PrivateKey) -> None:
        self.keys = keys
        self.document: Mapping[str, Any] | None = None
        self.away = False
        self.fetched = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch(self) -> Mapping[str, Any]:
        self.fetched += 1
        await self.may_answer.wait()
        if self.away:
            raise Unavailable
        return self.document or {"keys": [jwk(kid, key) for kid, key in self.keys.items()]}


def jwk(kid: str, key: ed25519.Ed25519PrivateKey) -> dict[str, Any]:
    return {**jwt.get_algorithm_by_name("EdDSA").to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "EdDSA"}


def claims(**changed: Any) -> dict[str, Any]:
    """Good claims, with some changed; one that is None is left out."""
    now = int(time.time())
    whole = {"tid": "acme", "sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 3600, **changed}
    return {name: value for name, value in whole.items() if value is not None}


def signed(headers: dict[str, Any] | None = None, key: Any = SECRET, algorithm: str = "HS256", **changed: Any) -> str:
    return "Bearer " + jwt.encode(claims(**changed), key, algorithm=algorithm, headers=headers)


def claiming(claim: str, value: object) -> str:
    return "Bearer " + jwt.encode(claims(**{claim: value}), SECRET, algorithm="HS256")


def handmade(header: dict[str, Any], payload: str | None = None, signature: bytes = b"") -> str:
    """A token that no library would make."""
    body = payload if payload is not None else json.dumps(claims())
    parts = [json.dumps(header).encode(), body.encode(), signature]
    return "Bearer " + ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def user_tokens(
    keys: StaticKeys | JwksKeys | None = None, *, algorithms: tuple[str, ...] = ("HS256",), clock: Any = time.time
) -> UserTokens:
    tokens = UserTokens(
        algorithms=algorithms,
        audience=AUDIENCE,
        issuer=ISSUER,
        tenant_claim="tid",
        subject_claim="sub",
        clock=clock,
    )
    tokens.keys = keys or StaticKeys(SECRET)
    return tokens


@pytest.mark.parametrize(
    ("authorization", "owner"),
    [
        pytest.param(signed(), ALICE, id="plain"),
        pytest.param(signed().replace("Bearer", "bEARER"), ALICE, id="scheme-in-any-case"),
        pytest.param(signed(aud=["other", AUDIENCE]), ALICE, id="ours-among-audiences"),
        pytest.param(signed(tid=7, sub=42), Owner("7", "42"), id="integers-become-strings"),
        pytest.param(signed(tid="t" * 256), Owner("t" * 256, "alice"), id="longest-name"),
        pytest.param(signed(nbf=int(time.time()) - 5, exp=time.time() + 3600.5), ALICE, id="numbers-with-fractions"),
    ],
)
async def test_a_good_token_names_its_owner(authorization: str, owner: Owner) -> None:
    assert await user_tokens().owner(authorization) == owner


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("Bearer ", id="empty-token"),
        pytest.param("Basic YWxpY2U6c2VjcmV0", id="another-scheme"),
        pytest.param("Bearer not.a.token", id="malformed"),
        pytest.param("Bearer " + "a" * 9000, id="malformed-and-long"),
        pytest.param(signed() + ".more", id="four-parts"),
        pytest.param(signed().rsplit(".", 1)[0] + ".", id="empty-signature"),
        pytest.param(signed()[:-4] + "AAAA", id="wrong-signature"),
        *(pytest.param(handmade({"alg": alg}), id=f"alg-{alg}") for alg in ("none", "None", "NONE", "nOnE", "")),
        pytest.param(handmade({"alg": None}), id="alg-null"),
        pytest.param(handmade({"alg": ["HS256"]}), id="alg-list"),
        pytest.param(handmade({}), id="alg-missing"),
        pytest.param(signed(algorithm="HS512", key=SECRET * 2), id="alg-not-on-the-list"),
        pytest.param(signed(key=b"another secret of thirty-two bytes, for us"), id="another-key"),
        pytest.param(signed(aud=None), id="aud-missing"),
        pytest.param(signed(aud="another"), id="aud-wrong"),
        pytest.param(signed(aud=["another", "third"]), id="aud-list-without-ours"),
        pytest.param(signed(aud=[]), id="aud-empty-list"),
        pytest.param(signed(aud={AUDIENCE: 1}), id="aud-object"),
        pytest.param(handmade({"alg": "HS256"}), id="unsigned"),
        pytest.param(signed(iss="https://evil.example"), id="iss-wrong"),
        pytest.param(signed(iss=None), id="iss-missing"),
        pytest.param(signed(exp=int(time.time()) - 1), id="expired"),
        pytest.param(signed(exp=None), id="exp-missing"),
        *(pytest.param(claiming("exp", exp), id=f"exp-{exp}") for exp in NO_TIMES),
        pytest.param(signed(nbf=int(time.time()) + 600), id="not-yet-valid"),
        pytest.param(signed(nbf="0"), id="nbf-text"),
        *(
            pytest.param(claiming(claim, value), id=f"{claim}-{type(value).__name__}-{index}")
            for claim in ("tid", "sub")
            for index, value in enumerate(
                (None, "", True, 1.5, ["acme"], {"$gt": ""}, "x" * 257, 10**256, "a\x00b", "half \ud83d a pair")
            )
        ),
        *(
            pytest.param(signed(headers={name: value}), id=name)
            for name, value in (
                ("jku", "https://evil.example/keys"),
                ("x5u", "https://evil.example/cert"),
                ("jwk", {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET).decode()}),
            )
        ),
        pytest.param(signed(headers={"crit": ["exp"]}), id="crit"),
        pytest.param(signed(padding="x" * 8200), id="over-8-KB"),
    ],
)
async def test_a_bad_token_names_nobody(authorization: str | None) -> None:
    with pytest.raises(Unauthorized):
        await user_tokens().owner(authorization)


async def test_a_public_key_is_no_secret() -> None:
    confused = handmade({"alg": "HS256", "typ": "JWT"})[len("Bearer ") :].rsplit(".", 1)[0]
    signature = jwt.get_algorithm_by_name("HS256").sign(confused.encode(), RSA_PEM)
    token = confused + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
    keys = StaticKeys(RSA_KEY.public_key())
    for algorithms in (("RS256",), ("RS256", "ES256", "EdDSA")):
        tokens = user_tokens(keys, algorithms=algorithms)
        with pytest.raises(Unauthorized):
            await tokens.owner(f"Bearer {token}")
        assert await tokens.owner(signed(key=RSA_KEY, algorithm="RS256")) == ALICE


async def test_a_key_of_another_kind_than_the_algorithm_opens_nothing() -> None:
    tokens = user_tokens(StaticKeys(RSA_KEY.public_key()), algorithms=("RS256", "ES256", "EdDSA"))
    for key, algorithm in (
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ):
        with pytest.raises(Unauthorized):
            await tokens.owner(signed(key=key, algorithm=algorithm))


async def test_a_verdict_lasts_five_minutes_at_most() -> None:
    clock, keys = Clock(time.time()), CountedKeys(SECRET)
    tokens, token = user_tokens(keys, clock=clock), signed()
    for seconds, verified in ((0, 1), (CACHE_SECONDS - 1, 1), (2, 2), (CACHE_SECONDS - 3, 2), (3, 3)):
        clock.now += seconds
        assert await tokens.owner(token) == ALICE
        assert keys.asked == verified


async def test_a_verdict_never_outlives_its_token() -> None:
    clock, keys = Clock(time.time()), CountedKeys(SECRET)
    tokens, token = user_tokens(keys, clock=clock), signed(exp=int(clock.now) + 60)
    await tokens.owner(token)
    clock.now += 61
    await tokens.owner(token)
    assert keys.asked == 2


async def test_a_refusal_is_not_remembered() -> None:
    keys = CountedKeys(SECRET)
    tokens = user_tokens(keys)
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await tokens.owner(signed(aud="another"))
    assert keys.asked == 2


def jwks(issuer: Issuer, clock: Clock) -> UserTokens:
    tokens = user_tokens(algorithms=("EdDSA", "RS256"), clock=clock)
    tokens.keys = JwksKeys(issuer.fetch, tokens.forget, clock)
    return tokens


def by(key: ed25519.Ed25519PrivateKey, kid: str | None) -> str:
    return signed({"kid": kid} if kid else None, key, "EdDSA")


def new_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


async def test_published_keys_are_fetched_again_after_five_minutes() -> None:
    clock, key = Clock(time.time()), new_key()
    issuer = Issuer(one=key)
    tokens = jwks(issuer, clock)
    for seconds, fetched in ((0, 1), (299, 1), (2, 2)):
        clock.now += seconds
        tokens.forget()
        assert await tokens.owner(by(key, "one")) == ALICE
        assert issuer.fetched == fetched


@pytest.mark.parametrize("kid", ["other", "../../../../dev/null", "https://evil.example/keys", ""])
async def test_an_unknown_key_is_looked_for_once_a_minute(kid: str) -> None:
    clock, key = Clock(time.time()), new_key()
    issuer = Issuer(one=key)
    tokens = jwks(issuer, clock)
    await tokens.owner(by(key, "one"))
    for seconds, fetched in ((59, 1), (2, 2), (0, 2), (58, 2), (2, 3)):
        clock.now += seconds
        with pytest.raises(Unauthorized):
            await tokens.owner(signed({"kid": kid}, key, "EdDSA"))
        assert issuer.fetched == fetched


async def test_a_new_key_is_taken_by_all_who_come_with_it_at_once() -> None:
    clock, old, new = Clock(time.time()), new_key(), new_key()
    issuer = Issuer(old=old)
    tokens = jwks(issuer, clock)
    await tokens.owner(by(old, "old"))
    issuer.keys["new"] = new
    clock.now += 61
    issuer.may_answer.clear()
    at_once = [asyncio.create_task(tokens.owner(by(new, "new"))) for _ in range(3)]
    while issuer.fetched < 2:  # noqa: ASYNC110 - one step of the loop, not a time
        await asyncio.sleep(0)
    assert await tokens.owner(by(old, "old")) == ALICE  # known keys don't wait for the fetch
    issuer.may_answer.set()
    assert await asyncio.gather(*at_once) == [ALICE] * 3
    assert issuer.fetched == 2


@pytest.mark.parametrize("leaves_others", [True, False])
async def test_a_verdict_dies_with_its_key(leaves_others: bool) -> None:
    clock, key, other = Clock(time.time()), new_key(), new_key()
    issuer = Issuer(one=key, other=other)
    tokens = jwks(issuer, clock)
    await tokens.owner(by(key, "one"))
    issuer.document = {"keys": [jwk("other", other)] if leaves_others else []}
    clock.now += 61
    with pytest.raises(Unauthorized):
        await tokens.owner(by(other, "unknown"))  # the issuer is asked, and the withdrawal is seen
    with pytest.raises(Unauthorized):
        await tokens.owner(by(key, "one"))


async def test_the_only_key_needs_no_name() -> None:
    clock, key = Clock(time.time()), new_key()
    issuer = Issuer(one=key)
    assert await jwks(issuer, clock).owner(by(key, None)) == ALICE
    issuer.keys["two"] = new_key()
    with pytest.raises(Unauthorized):
        await jwks(issuer, clock).owner(by(key, None))


async def test_keys_that_were_never_fetched_are_our_fault_and_not_the_users() -> None:
    clock, key = Clock(time.time()), new_key()
    issuer = Issuer(one=key)
    issuer.away = True
    tokens = jwks(issuer, clock)
    for seconds, fetched in ((0, 1), (1, 1), (5, 2)):
        clock.now += seconds
        with pytest.raises(Unavailable):
            await tokens.owner(by(key, "one"))
        assert issuer.fetched == fetched
    issuer.away = False
    clock.now += 5
    assert await tokens.owner(by(key, "one")) == ALICE


@pytest.mark.parametrize(
    "published",
    [
        None,
        {"keys": None},
        {"keys": 5},
        {"keys": [5]},
        {"keys": [{"kty": "RSA", "kid": "one", "n": 5, "e": "AQAB"}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": "!"}]},
        {"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "x": [], "y": {}}]},
    ],
)
async def test_known_keys_stay_while_the_issuer_is_away_or_publishes_nonsense(
    published: Mapping[str, Any] | None,
) -> None:
    clock, key = Clock(time.time()), new_key()
    issuer = Issuer(one=key)
    tokens = jwks(issuer, clock)
    await tokens.owner(by(key, "one"))
    issuer.away, issuer.document = published is None, published
    clock.now += 301
    tokens.forget()
    assert await tokens.owner(by(key, "one")) == ALICE
    assert issuer.fetched == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["tid", "sub", "iss", "aud", "exp", "nbf", "iat", "crit"]), VALUES, max_size=4))
def test_whatever_a_token_claims_it_names_who_it_should_or_nobody(changed: dict[str, Any]) -> None:
    token = handmade({"alg": "HS256", "typ": "JWT"}, json.dumps({**claims(), **changed})).rpartition(".")[0]
    signature = hmac.digest(SECRET, token.removeprefix("Bearer ").encode(), "sha256")
    try:
        owner = asyncio.run(user_tokens().owner(f"{token}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"))
    except Unauthorized:
        return
    named = {"tid": "acme", "sub": "alice", **changed}
    assert (owner.tenant, owner.subject) == (str(named["tid"]), str(named["sub"]))
    assert {type(named["tid"]), type(named["sub"])} <= {str, int}
    assert 0 < len(owner.tenant) <= 256 >= len(owner.subject) > 0


@given(st.data())
def test_a_token_of_which_one_character_is_another_names_nobody(data: st.DataObject) -> None:
    token = signed()
    at = data.draw(st.integers(len("Bearer "), len(token) - 2))  # the last has bits that mean nothing
    other = data.draw(st.characters(codec="latin-1").filter(lambda character: character != token[at]))
    with pytest.raises(Unauthorized):
        asyncio.run(user_tokens().owner(token[:at] + other + token[at + 1 :]))


@given(st.text(st.characters(codec="latin-1")))
def test_anything_else_names_nobody(authorization: str) -> None:
    with pytest.raises(Unauthorized):
        asyncio.run(user_tokens().owner(authorization))

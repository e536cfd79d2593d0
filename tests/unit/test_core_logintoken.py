"""A login link works for whoever holds the admin secret, for ten minutes, and fails in one way only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall import logintoken
from farcall.logintoken import LoginTokenError, check_login_token, mint_login_token

pytestmark = pytest.mark.unit

SECRET = "s" * 32
NOW = 1_800_000_000.0


def test_a_minted_token_is_taken_until_it_expires() -> None:
    token = mint_login_token(SECRET, now_s=NOW)

    nonce, expiry = check_login_token(SECRET, token, now_s=NOW + 600)

    assert expiry == int(NOW) + 600
    assert len(nonce) >= 22
    with pytest.raises(LoginTokenError, match="expired"):
        check_login_token(SECRET, token, now_s=NOW + 600.5)


def test_no_two_tokens_share_a_nonce() -> None:
    tokens = [mint_login_token(SECRET, now_s=NOW) for _ in range(50)]

    assert len({check_login_token(SECRET, t, now_s=NOW)[0] for t in tokens}) == 50


def test_a_token_of_another_secret_is_not_valid() -> None:
    with pytest.raises(LoginTokenError, match="not valid"):
        check_login_token(SECRET, mint_login_token("t" * 32, now_s=NOW), now_s=NOW)


def test_no_character_of_a_token_can_be_changed() -> None:
    token = mint_login_token(SECRET, now_s=NOW)
    for index, character in enumerate(token):
        forged = token[:index] + ("A" if character != "A" else "B") + token[index + 1 :]
        with pytest.raises(LoginTokenError):
            check_login_token(SECRET, forged, now_s=NOW)


def sign(payload: str) -> str:
    return f"{payload}.{logintoken._sign(SECRET, payload)}"


@pytest.mark.parametrize(
    "payload", ["", ".", "x.nonce", "-1.nonce", "1e9.nonce", " 99.nonce", "99999999999", "99999999999.",
                "٣٣٣.nonce", "９９９９９９９９９９９.nonce", "1_0.n", "9" * 5000 + ".n"]
)  # fmt: skip
def test_a_payload_that_is_signed_but_malformed_is_a_login_token_error(payload: str) -> None:
    with pytest.raises(LoginTokenError):
        check_login_token(SECRET, sign(payload), now_s=NOW)


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b", "é.é.é", "\ud800.\ud800.\ud800", "\0", "1.n." + "x" * 100_000]
)
def test_what_is_no_token_is_a_login_token_error(token: str) -> None:
    with pytest.raises(LoginTokenError, match="not valid"):
        check_login_token(SECRET, token, now_s=NOW)


@given(st.text(st.characters(), max_size=300))
def test_any_text_is_a_login_token_error(token: str) -> None:
    with pytest.raises(LoginTokenError):
        check_login_token(SECRET, token, now_s=NOW)


def test_the_link_is_the_consoles_path() -> None:
    for url in ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"):
        assert logintoken.render_login_link(url, "T") == "http://127.0.0.1:8080/login?token=T"

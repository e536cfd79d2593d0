"""What goes to the API server as an apply is JSON and YAML alike, whatever characters a user wrote."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from farcall_operator.cluster.client import render_body

pytestmark = pytest.mark.unit

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(TEXTS)
def test_a_body_means_the_same_as_json_and_as_yaml(text: str) -> None:
    body = {"data": {"text": text}}
    raw = render_body(body)

    assert json.loads(raw) == body
    assert yaml.safe_load(raw) == body


def test_a_backslash_before_what_looks_like_a_pair_stays_a_backslash() -> None:
    body = {"text": "\\ud83d\\ude00 and 😀 and \\\\"}

    assert json.loads(render_body(body)) == body
    assert "😀".encode() in render_body(body)

"""How long a call took and when it was answered, as its span says."""

import pytest

from farcall_exporter.batches import build_batch
from support_exporter import FakeWriter, Row, decoded, exchange, make_context

pytestmark = pytest.mark.unit


def one_span(**changes: object) -> Row:
    writer = FakeWriter()
    rows = [exchange(**changes)]
    writer.write(build_batch(decoded(rows), make_context()), token="t")
    [span] = writer.rows("spans")
    return span


def test_a_call_whose_response_goes_on_says_when_it_began() -> None:
    slow = one_span(duration_ns=900, first_byte_ns=300, request_duration_ns=100)
    attributes = slow["SpanAttributes"]

    assert slow["Duration"] == 900
    assert attributes["farcall.response.first_byte_ns"] == "300"
    assert attributes["farcall.request.duration_ns"] == "100"
    assert not {key for key in one_span()["SpanAttributes"] if key.endswith("_ns")}

"""How many requests or commands were sent at once, as the span says."""

import pytest

from farcall_exporter.batches import build_batch
from support_exporter import FakeWriter, decoded, exchange, make_context, redis_exchange

pytestmark = pytest.mark.unit


def test_a_pipeline_says_how_many_it_asks() -> None:
    writer = FakeWriter()
    rows = [exchange(batch_size=16), exchange(), redis_exchange(batch_size=40)]
    writer.write(build_batch(decoded(rows), make_context()), token="t")
    attributes = [span["SpanAttributes"] for span in writer.rows("spans")]

    assert [a.get("farcall.pipeline.count") for a in attributes] == ["16", None, None]
    assert [a.get("db.operation.batch.size") for a in attributes] == [None, None, "40"]

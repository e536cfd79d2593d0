"""Header blocks as clients of all sorts make them, by the PyPI package's encoder."""

from hpack import Encoder, NeverIndexedHeaderTuple
from hypothesis import strategies as st

from farcall_probes.wire.tracecontext import NOBODY, Ids
from farcall_probes.wire.traceparents import Found

TRACES = [f"00-{'ab' * 15}{i:02x}-{'cd' * 7}{i:02x}-01" for i in range(1, 4)]
# Of a client: what it says always, and what it says anew each time.
CONSTANT = [
    [(":method", "POST"), (":path", "/shop.Cart/AddItem"), ("te", "trailers")],
    [(":method", "GET"), (":authority", "api.example.com"), ("user-agent", "curl/8.5")],
    [],
]
anew = st.sampled_from(
    [
        ("traceparent", *TRACES),
        ("traceparent", *TRACES, "none"),
        ("grpc-timeout", "900001u", "17m", "900001u", "3S"),
        (":path", "/a", "/b?c=d", "/a"),
        ("x-b3-traceid", "", "a" * 32, "b" * 16),
        ("tracestate", "rojo=1", "", "congo=2"),
        ("cookie", "", "a=b", "c=" + "d" * 200),
        ("content-type", "application/grpc", "text/html"),
        ("x-request-id", "1", "22", "333"),
        ("x-" + "y" * 40, "1", "2"),
    ]
)


@st.composite
def clients(draw: st.DrawFn) -> list[tuple[bytes, bool]]:
    """Blocks of one connection, and which of them are lost."""
    encoder = Encoder()
    if draw(st.booleans()):
        encoder.header_table_size = draw(st.sampled_from([0, 100, 300, 8192]))
    blocks = []
    for _ in range(draw(st.integers(1, 4))):
        constant = draw(st.sampled_from(CONSTANT))
        others = draw(st.lists(anew, max_size=4))
        is_coded, is_passing = draw(st.booleans()), draw(st.booleans())
        for _ in range(draw(st.integers(1, 50))):
            headers = [*constant, *((name, draw(st.sampled_from(said))) for name, *said in others)]
            if is_passing:
                headers = [NeverIndexedHeaderTuple(*header) for header in headers]
            is_lost = draw(st.integers(0, 40)) == 0
            blocks.append((encoder.encode(headers, huffman=is_coded), is_lost))
    return blocks


def list_ids(found: Found) -> list[Ids | None]:
    """Of each its IDs; NOBODY of an invalid one, None where there is none."""
    rows = zip(map(bytes, found.ids), found.is_named, found.is_invalid, strict=True)
    assert not any(any(ids) for ids, is_named, _ in rows if not is_named)
    rows = zip(map(bytes, found.ids), found.is_named, found.is_invalid, strict=True)
    return [
        (ids[:16], ids[16:]) if is_named else NOBODY if is_invalid else None
        for ids, is_named, is_invalid in rows
    ]

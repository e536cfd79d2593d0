"""Which place a stream of HTTP/2 has on its connection: by that both ends of a call meet."""

from itertools import chain

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.streamrows import STREAM_STEP
from farcall_probes.streams import Streams
from support_frames import make_frames
from support_http2 import Talk, get_headers

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("places", [(4_096, 4_190, 4_301), (4_399, 4_399, 4_399)])
def test_inside_tls_a_stream_has_one_place_wherever_its_record_was_thought_to_begin(
    places: tuple[int, ...],
) -> None:
    """As the client's end wrote them, and as a server's end met three records in one read."""
    talk, streams = Talk(flags=events.FLAG_TLS), Streams()
    numbers = (1, 3, 5)
    asked = [
        talk.ask(number, get_headers(), request_seq=place)
        for number, place in zip(numbers, places, strict=True)
    ]
    answered = [talk.answer(number) for number in numbers]
    block = np.concatenate(list(chain(*asked, *answered)))
    found = streams.take(make_frames(block))

    assert found is not None
    assert found.block["request_seq"].tolist() == [0, STREAM_STEP, 2 * STREAM_STEP]


def test_a_stream_in_plain_text_keeps_the_place_of_its_head() -> None:
    talk, streams = Talk(), Streams()
    block = np.concatenate([*talk.ask(3, get_headers(), request_seq=4_190), *talk.answer(3)])
    found = streams.take(make_frames(block))

    assert found is not None and found.block["request_seq"].tolist() == [4_190]

"""Bytes of real peers (curl, python-requests, redis-cli, redis-py, dnsmasq), and what the parsers read in them.

`UPDATE_GOLDEN=1` writes the texts anew; the difference belongs in the review.
"""

import os
from pathlib import Path

import pytest

from farcall_probes.masking import CommandText, mask_query
from farcall_probes.wire import dns, http1, redis

pytestmark = pytest.mark.golden

DIRECTORY = Path(__file__).parent / "wire"
CAPTURES = sorted(DIRECTORY.glob("*.bin"))


def render(name: str, data: bytes) -> str:
    """One field a line."""
    if name.startswith("dnsmasq"):
        answer = dns.parse_answer(data)
        assert isinstance(answer, dns.DnsAnswer)
        lines = [f"{k}: {v}" for k, v in answer._asdict().items() if k != "addresses"]
        lines += [f"address: {a.address.hex()} ttl {a.ttl_s}" for a in answer.addresses]
    elif name.startswith("redis"):
        command = redis.parse_commands(data)
        assert isinstance(command, redis.RedisCommand)
        lines = [f"{k}: {v!r}" for k, v in command._asdict().items()]
        lines.append(f"masked: {CommandText(masking=True).render(command)}")
    else:
        request = http1.RequestParser().parse(data)
        assert isinstance(request, http1.HttpRequest)
        lines = [f"{k}: {v!r}" for k, v in request._asdict().items()]
        lines.append(f"masked query: {mask_query(request.query or '')}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_what_is_read_in_the_bytes_of_a_real_peer(capture: Path) -> None:
    rendered = render(capture.name, capture.read_bytes())
    expected = capture.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(rendered, encoding="utf-8")
    assert rendered == expected.read_text(encoding="utf-8")
    assert "secret" not in rendered or "query: 'id=42&token=secret'" in rendered


def test_there_are_captures_of_each_protocol() -> None:
    assert {path.stem.split("-")[0] for path in CAPTURES} == {"curl", "python", "redis", "dnsmasq"}

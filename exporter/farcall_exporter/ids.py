"""Span and trace IDs, derived: two exporters that see two ends of one call arrive at the same IDs without talking.

With the connection's identity the ID is a mix of (first client byte, first server byte, the request's sequence number)
and a bucket of time, because one connection repeats its sequence numbers every 4 GiB. A call that straddles two buckets
at its two ends gets two IDs; nothing depends on it, since joins compare the key itself. Without an identity the ID
comes from (boot, connection, role, exchange number). The mixer is splitmix64's finaliser: spread, not secrecy.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from farcall.mixing import Words, mix
from farcall_exporter.columns import Mask

BUCKET_BITS = 36  # 2^36 ns = 69 s: 4 GiB of requests in less would need 62 MB/s on one connection
_SALTS = tuple(
    np.uint64(salt) for salt in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
)
_IDENTITY_SALT = np.uint64(0x27D4EB2F165667C5)


@dataclass(frozen=True, slots=True)
class SpanIds:
    trace_high: Words
    trace_low: Words
    span: Words


def identity_words(isn_client: Words, isn_server: Words) -> Words:
    """The connection's identity I as one word."""
    return (isn_client << np.uint64(32)) | isn_server


def derive_call_spans(identity: Words, request_seq: Words, start_ns: Words) -> Words:
    """Span IDs of calls by their join key, as derive_ids makes them; all columns are of one length."""
    head = identity ^ _IDENTITY_SALT
    tail = _call_tail(request_seq, start_ns)
    return np.maximum(mix(mix(head + _SALTS[2]) ^ mix(tail + _SALTS[2])), np.uint64(1))


def _call_tail(request_seq: Words, start_ns: Words) -> Words:
    return (request_seq << np.uint64(32)) | (start_ns >> np.uint64(BUCKET_BITS))


def derive_ids(
    *,
    has_identity: Mask,
    identity: Words,
    request_seq: Words,
    start_ns: Words,
    boot_id: str,
    connection: Words,
    sequence: Words,
    role: Words,
) -> SpanIds:
    boot = np.uint64(
        int.from_bytes(hashlib.blake2b(boot_id.encode(), digest_size=8).digest(), "big")
    )
    shared_tail = _call_tail(request_seq, start_ns)
    own_tail = (sequence << np.uint64(8)) | role
    head = np.where(has_identity, identity ^ _IDENTITY_SALT, connection ^ boot)
    tail = np.where(has_identity, shared_tail, own_tail)
    trace_high, trace_low, span = (
        np.maximum(mix(mix(head + salt) ^ mix(tail + salt)), np.uint64(1)) for salt in _SALTS
    )
    return SpanIds(trace_high, trace_low, span)

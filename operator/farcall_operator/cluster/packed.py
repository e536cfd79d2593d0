"""Objects as they lie in memory between two looks at them: what nobody reads is left out, and the rest is compressed.

As dictionaries an object takes ten times that, and a thousand TracingConfigs have 17,000 of them.
"""

import json
import sys
import zlib
from typing import Any, NamedTuple

from farcall_operator.cluster.port import Manifest

MAX_SHARED = 128  # characters: a condition's message, a CIDR; longer texts are hardly ever the same


class Packed(NamedTuple):
    uid: str
    version: str
    raw: bytes


def pack(manifest: Manifest) -> Packed:
    """Without managedFields, which are half of an object's size."""
    slim = drop_managed_fields(manifest)
    metadata = slim["metadata"]
    text = json.dumps(slim, separators=(",", ":"))
    return Packed(
        uid=str(metadata.get("uid", "")),
        version=str(metadata.get("resourceVersion", "")),
        raw=zlib.compress(text.encode(), 1),
    )


def unpack(packed: Packed) -> Manifest:
    """A new one each time: whoever gets it may change it."""
    found: Manifest = json.loads(zlib.decompress(packed.raw))
    return found


def drop_managed_fields(manifest: Manifest) -> Manifest:
    metadata = {k: v for k, v in manifest["metadata"].items() if k != "managedFields"}
    return {**manifest, "metadata": metadata}


def share_strings(value: Any) -> Any:
    """A copy whose keys and short texts are one object each for the whole process: half of a TracingConfig's size."""
    if isinstance(value, dict):
        return {sys.intern(key): share_strings(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [share_strings(inner) for inner in value]
    if isinstance(value, str) and len(value) <= MAX_SHARED:
        return sys.intern(value)
    return value


def is_newer_version(one: str, other: str) -> bool:
    """API servers count resource versions upwards; whoever does not is told to be no newer."""
    return one.isdecimal() and other.isdecimal() and int(one) > int(other)

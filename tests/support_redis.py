"""Commands of Redis as bytes."""


def command(*words: str | bytes) -> bytes:
    encoded = [w.encode() if isinstance(w, str) else w for w in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded)

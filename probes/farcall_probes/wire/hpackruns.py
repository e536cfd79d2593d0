"""Header fields of one byte each (RFC 7541, 6.1), named by the entries that they mean.

An index counts from the newest entry, so the same headers have other indices after every insertion. With the number of
insertions a field's byte names the entry itself, and the same run of fields has the same name again.
"""

# An index of the static table, or 0xBE for the newest entry, 0xBF for the one before it; 0xFF begins a longer index.
_FIRST_STATIC, _NEWEST, _OLDEST = 0x81, 0xBE, 0xFE
ONE_BYTE = bytes(range(_FIRST_STATIC, _OLDEST + 1))
# One byte reaches 65 entries back, so in an epoch of so many insertions there are 128 that can be meant. Names hold that long.
EPOCH = 64
AGES = 2 * EPOCH


def _name_entries(inserted: int) -> bytes:
    """A table for bytes.translate, for when so many entries were made (modulo AGES)."""
    names = bytearray(256)
    for byte in range(_FIRST_STATIC, _OLDEST + 1):
        age = byte - _NEWEST
        names[byte] = byte - _FIRST_STATIC if age < 0 else AGES | (inserted - 1 - age) % AGES
    return bytes(names)


MEANINGS = [_name_entries(inserted) for inserted in range(AGES)]

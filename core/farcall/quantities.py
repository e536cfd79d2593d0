"""Durations (`90s`, `3h`, `3d`, `2w`) and quantities (`8Gi`, `100m`) as people write them. Text in, numbers out."""

import re
from fractions import Fraction

_DURATION = re.compile(r"([1-9][0-9]{0,6})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_BYTES = re.compile(r"([1-9][0-9]{0,8})(Ki|Mi|Gi|Ti)?")
_FACTORS = {None: 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}

# The same rules for the CRD's structural schema, where seconds and minutes make no sense as a retention.
RETENTION_PATTERN = r"^[1-9][0-9]{0,6}(h|d|w)$"
BYTES_PATTERN = r"^[1-9][0-9]{0,8}(Ki|Mi|Gi|Ti)?$"
# What a container may request, as Kubernetes writes it, without exponents and what nobody has.
QUANTITY_PATTERN = r"^(0\.[0-9]{0,2}[1-9]|[1-9][0-9]{0,11}(\.[0-9]{1,3})?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_SCALES: dict[str | None, Fraction] = {
    **{name: Fraction(factor) for name, factor in _FACTORS.items()},
    "m": Fraction(1, 1_000),
    **{name: Fraction(1_000**power) for power, name in enumerate("kMGT", start=1)},
}


def parse_duration_s(text: str) -> int:
    """Seconds of `90s`, `15m`, `3h`, `3d` or `2w`. Raises ValueError that says what is allowed."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration: write a whole number above 0 and a unit, s, m, h, d or w"
        )
    return int(match[1]) * _SECONDS[match[2]]


def parse_bytes(text: str) -> int:
    """Bytes of `512`, `10Mi` or `8Gi`. Raises ValueError that says what is allowed."""
    match = _BYTES.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a size: write a whole number above 0 and Ki, Mi, Gi or Ti"
        )
    return int(match[1]) * _FACTORS[match[2]]


def parse_quantity(text: str) -> Fraction:
    """Cores or bytes of `100m`, `1.5`, `256Mi` or `1G`. Raises ValueError."""
    match = _QUANTITY.fullmatch(text)
    if match is None or not text.isascii():
        raise ValueError(
            f"{text!r} is not a quantity: write a number and m, k, M, G, T, Ki, Mi, Gi or Ti"
        )
    return Fraction(match[1]) * _SCALES[match[2]]

"""A trace in which every string that a stranger can choose is chosen by a stranger."""

from support_console_rows import Rows, peer

NS = 1_000_000_000
MS = 1_000_000

# What has hurt viewers of traces before: markup, attribute breakers, template syntax, direction marks, controls.
HOSTILE = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "\"><svg onload=window.pwned=1>'`",
    "javascript:window.pwned=1",
    "{{constructor.constructor('window.pwned=1')()}}${window.pwned=1}",
    "\u202egnp.exe\u2066\u200b\u0007\x1b[31mred\x1b[0m",
    "</textarea></title></style><script>window.pwned=1</script>",
)
HOSTILE_TEXT = " ".join(HOSTILE)


def add_hostile(rows: Rows, at: int) -> None:
    """Every string that a stranger can choose is chosen by a stranger."""
    attributes = {f"key {n} {text}": text for n, text in enumerate(HOSTILE)}
    rows.span(
        "hostile",
        "hostile",
        at=at,
        took=5 * MS,
        service=f"service {HOSTILE_TEXT}",
        operation=f"name {HOSTILE_TEXT}",
        destination=f"host {HOSTILE_TEXT}",
        status="Error",
        message=f"message {HOSTILE_TEXT}",
        attributes={**attributes, **peer("203.0.113.66", 80, "http", source="http")},
    )
    rows.connection(
        "hostile",
        opened=at,
        client=f"c:{HOSTILE_TEXT}",
        service=f"service {HOSTILE_TEXT}",
        peer="203.0.113.66",
        port=80,
        label=f"host {HOSTILE_TEXT}",
        source="http",
    )
    rows.answer(
        f"question {HOSTILE_TEXT}",
        "203.0.113.66",
        at=at - NS,
        client=f"c:{HOSTILE_TEXT}",
        service="x",
    )
    rows.log(
        f"body {HOSTILE_TEXT}",
        at=at + MS,
        service=f"service {HOSTILE_TEXT}",
        trace="hostile",
        span="hostile",
        attributes=attributes,
    )

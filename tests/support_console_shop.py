"""What the console's tests and screenshots show: one believable shop, and a trace in which every string is hostile."""

from support_console_hostile import add_hostile
from support_console_rows import Rows, peer

NS = 1_000_000_000
MS = 1_000_000
UNKNOWN = "Unknown External Service"
CLIENT = "c:4c01db0b339c"


def add_checkout(rows: Rows, at: int) -> None:
    """An OpenTelemetry trace with the calls that farcall saw below it: the trace most tests open."""
    trace = "checkout"
    rows.span(
        trace,
        "post",
        at=at,
        took=184 * MS,
        service="checkout",
        operation="POST /checkout",
        source="otel",
        kind="Server",
        attributes={
            "http.request.method": "POST",
            "url.path": "/checkout",
            "http.response.status_code": "200",
        },
    )
    rows.span(
        trace,
        "reserve",
        parent="post",
        at=at + 6 * MS,
        took=38 * MS,
        service="checkout",
        operation="reserve stock",
        source="otel",
        kind="Client",
    )
    rows.span(
        trace,
        "charge",
        parent="post",
        at=at + 61 * MS,
        took=104 * MS,
        service="checkout",
        operation="charge card",
        source="otel",
        kind="Client",
    )
    rows.span(
        "cart-calls",
        "cart",
        parent="",
        at=at + 2 * MS,
        took=1_240_000,
        service="checkout",
        operation="GET",
        destination="cache.example.com",
        attributes=peer(
            "203.0.113.10",
            6379,
            "redis",
            source="dns",
            confidence="exact",
            **{"farcall.name.age_s": "271"},
        ),
    )
    rows.link("cart", "cart-calls", "post", trace, at=at + 2 * MS)
    rows.span(
        "stock-calls",
        "stock",
        at=at + 7 * MS,
        took=35 * MS,
        service="checkout",
        operation="POST /reserve",
        destination="inventory",
        attributes=peer(
            "10.96.14.2",
            80,
            "http",
            source="kubernetes",
            confidence="exact",
            **{
                "http.request.method": "POST",
                "url.path": "/reserve",
                "http.response.status_code": "200",
                "farcall.join": "exact",
                "farcall.server.duration_ns": str(28 * MS),
                "farcall.server.service.name": "inventory",
                "farcall.request.duration_ns": str(2 * MS),
                "farcall.response.first_byte_ns": str(31 * MS),
            },
        ),
    )
    rows.link("stock", "stock-calls", "reserve", trace, at=at + 7 * MS)
    rows.span(
        "stock-calls",
        "stock-db",
        parent="stock",
        at=at + 12 * MS,
        took=17 * MS,
        service="inventory",
        operation="SELECT",
        destination="postgres",
        attributes=peer(
            "10.96.30.7",
            5432,
            "postgresql",
            source="kubernetes",
            confidence="exact",
            **{"db.query.text": "SELECT id FROM stock WHERE sku = ?"},
        ),
    )
    rows.span(
        "pay-calls",
        "pay",
        at=at + 62 * MS,
        took=101 * MS,
        service="checkout",
        operation="POST /v1/charges",
        destination="api.payments.example",
        attributes=peer(
            "198.51.100.20",
            443,
            "http",
            source="http",
            confidence="exact",
            **{
                "http.request.method": "POST",
                "url.path": "/v1/charges",
                "http.response.status_code": "201",
            },
        ),
    )
    rows.link("pay", "pay-calls", "charge", trace, at=at + 62 * MS)
    rows.span(
        "fraud-calls",
        "fraud",
        at=at + 66 * MS,
        took=31 * MS,
        service="checkout",
        operation="POST /score",
        destination=UNKNOWN,
        reason="no_dns_seen",
        status="Error",
        message="503",
        attributes=peer(
            "203.0.113.99",
            8080,
            "http",
            **{
                "http.request.method": "POST",
                "url.path": "/score",
                "http.response.status_code": "503",
                "error.type": "503",
            },
        ),
    )
    rows.link("fraud", "fraud-calls", "charge", trace, at=at + 66 * MS)
    rows.connection(
        "cart",
        opened=at - 270 * NS,
        client=CLIENT,
        service="checkout",
        peer="203.0.113.10",
        port=6379,
        label="cache.example.com",
        source="dns",
        answered=at - 271 * NS,
    )
    rows.answer(
        "cache.example.com", "203.0.113.10", at=at - 271 * NS, client=CLIENT, service="checkout"
    )
    rows.answer(
        "old-cache.example.com", "203.0.113.10", at=at - 900 * NS, client=CLIENT, service="checkout"
    )
    rows.connection(
        "fraud",
        opened=at + 65 * MS,
        client=CLIENT,
        service="checkout",
        peer="203.0.113.99",
        port=8080,
        label=UNKNOWN,
        reason="no_dns_seen",
    )
    _add_checkout_logs(rows, at)


def _add_checkout_logs(rows: Rows, at: int) -> None:
    log = rows.log
    log(
        "checkout started for cart 8f2c with 3 items",
        at=at + 1 * MS,
        service="checkout",
        trace="checkout",
        span="post",
        attributes={"cart.id": "8f2c", "items": "3"},
    )
    log(
        "cart read from cache in 1.2 ms",
        at=at + 4 * MS,
        service="checkout",
        trace="checkout",
        span="post",
        severity="DEBUG",
    )
    log(
        "reserving stock for sku A-1009",
        at=at + 8 * MS,
        service="checkout",
        trace="checkout",
        span="reserve",
        attributes={"sku": "A-1009"},
    )
    log(
        "stock is low: 2 left of A-1009",
        at=at + 30 * MS,
        service="inventory",
        trace="checkout",
        span="reserve",
        severity="WARN",
        attributes={"sku": "A-1009", "left": "2"},
    )
    log(
        "charging 42.50 EUR",
        at=at + 62 * MS,
        service="checkout",
        trace="checkout",
        span="charge",
        attributes={"currency": "EUR"},
    )
    log(
        'fraud score not available: 503 from 203.0.113.99:8080\nTraceback (most recent call last):\n  File "score.py", line 12, in score\nScoreError: 503',
        at=at + 98 * MS,
        service="checkout",
        trace="checkout",
        span="charge",
        severity="ERROR",
        attributes={"error.details": "connection refused by upstream"},
    )
    log(
        "payment accepted, order 1042 placed",
        at=at + 166 * MS,
        service="checkout",
        trace="checkout",
        span="charge",
        attributes={"order.id": "1042"},
    )
    log(
        "confirmation sent to the customer",
        at=at + 400 * NS,
        service="mailer",
        trace="checkout",
        attributes={"order.id": "1042"},
    )


def add_others(rows: Rows, now: int) -> None:
    """A bare-IP call that is linked to nothing, an expired name, a caller from outside, and everyday traffic."""
    at = now - 90 * NS
    rows.span(
        "bare",
        "bare",
        at=at,
        took=12 * MS,
        service="report",
        operation="GET /api/data",
        destination=UNKNOWN,
        reason="no_dns_seen",
        attributes=peer(
            "203.0.113.50",
            8080,
            "http",
            **{
                "http.request.method": "GET",
                "url.path": "/api/data",
                "http.response.status_code": "200",
            },
        ),
    )
    rows.span(
        "expired",
        "expired",
        at=at + 5 * NS,
        took=800_000,
        service="sessions",
        operation="SETEX",
        destination=UNKNOWN,
        reason="expired",
        attributes=peer("203.0.113.11", 6379, "redis"),
    )
    rows.connection(
        "expired",
        opened=at - 5_000 * NS,
        client="c:77aa",
        service="sessions",
        peer="203.0.113.11",
        port=6379,
        label=UNKNOWN,
        reason="expired",
        answered=at - 5_001 * NS,
    )
    rows.answer(
        "sessions.example.com",
        "203.0.113.11",
        at=at - 5_001 * NS,
        client="c:77aa",
        service="sessions",
    )
    rows.span(
        "outside",
        "outside",
        at=at + 9 * NS,
        took=23 * MS,
        service="storefront",
        operation="GET /",
        kind="Server",
        server=True,
        attributes={
            "client.address": "198.51.100.7",
            "client.port": "49152",
            "http.request.method": "GET",
            "url.path": "/",
            "http.response.status_code": "200",
            **peer("198.51.100.7", 49152, "http"),
        },
    )
    calls = (
        ("storefront", "GET /products", "catalog", "kubernetes"),
        ("catalog", "GET", "cache.example.com", "dns"),
        ("checkout", "POST /v1/refunds", "api.payments.example", "http"),
        ("storefront", "GET /recommendations", "recommender.ml.example", "sni"),
        ("catalog", "SELECT", "postgres", "kubernetes"),
        ("mailer", "POST /send", "smtp.mail.example", "cluster"),
    )
    for n in range(60):
        service, operation, destination, source = calls[n % len(calls)]
        failed = n % 17 == 5
        took = (3 + n * 7919 % 140) * MS // (1 + n % 3)
        rows.span(
            f"day-{n}",
            f"day-{n}",
            at=now - (100 + n * 13) * NS,
            took=took,
            service=service,
            operation=operation,
            destination=destination,
            status="Error" if failed else "Unset",
            message="timeout" if failed else "",
            attributes=peer(
                "203.0.113.10",
                443,
                "http",
                source=source,
                confidence="shared" if source == "cluster" else "exact",
            ),
        )
        if n % 2:
            rows.log(
                f"{operation} took {took // MS} ms",
                at=now - (100 + n * 13) * NS + took,
                service=service,
                severity="ERROR" if failed else "INFO",
                attributes={"destination": destination},
            )


def build_shop(now: int) -> Rows:
    rows = Rows()
    add_checkout(rows, now - 20 * NS)
    add_others(rows, now)
    add_hostile(rows, now - 2_000 * NS)
    return rows

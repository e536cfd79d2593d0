"""A trace of many spans: four children to a span, as deep as that goes."""

from support_console_rows import Rows, peer

MS = 1_000_000


def build_big(trace: str, spans: int, now: int) -> Rows:
    rows = Rows()
    for n in range(spans):
        rows.span(
            trace,
            f"{trace} {n}",
            parent=f"{trace} {(n - 1) // 4}" if n else "",
            at=now - 10_000 * MS + n * 50_000,
            took=MS * (1 + n % 50),
            service=f"service-{n % 12}",
            operation=f"GET /api/{n}",
            destination=f"host-{n % 40}.example.com",
            attributes={
                "http.request.method": "GET",
                "http.response.status_code": "200",
                "url.path": f"/api/{n}",
                **peer("203.0.113.5", 443, "http", source="http", confidence="exact"),
            },
        )
    return rows

"""A service instrumented with the OpenTelemetry SDK: spans and logs by OTLP/HTTP, `traceparent` on every call it makes.

Arguments: payments URL, inventory URL, seconds between calls. OTEL_EXPORTER_OTLP_ENDPOINT says where OTLP goes.
"""

import sys
import time

import requests
from opentelemetry import trace
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import inject
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from farcall_demo.apps.pace import repeat

TIMEOUT_S = 5
EXPORT_EVERY_MS = 2_000  # each export is a call as well, and would crowd the others out


class Checkout:
    def __init__(self, *, payments_url: str, inventory_url: str) -> None:
        self._payments_url = payments_url
        self._inventory_url = inventory_url
        self._tracer = make_tracer()
        self._logger = make_logger()

    def place_order(self, number: int) -> None:
        with self._tracer.start_as_current_span("place order", kind=trace.SpanKind.SERVER):
            self.say(SeverityNumber.INFO, "INFO", f"order {number} received", number)
            self.call("reserve stock", "GET", f"{self._inventory_url}/{number}")
            self.call("charge card", "POST", f"{self._payments_url}/{number}")
            if number % 5 == 0:
                self.say(SeverityNumber.WARN, "WARN", f"order {number} is slow", number)
            self.say(SeverityNumber.INFO, "INFO", f"order {number} paid", number)

    def call(self, name: str, method: str, url: str) -> None:
        with self._tracer.start_as_current_span(name, kind=trace.SpanKind.CLIENT):
            headers: dict[str, str] = {}
            inject(headers)
            requests.request(method, url, headers=headers, timeout=TIMEOUT_S).raise_for_status()

    def say(self, severity: SeverityNumber, text: str, body: str, number: int) -> None:
        now_ns = time.time_ns()
        self._logger.emit(
            LogRecord(
                timestamp=now_ns,
                observed_timestamp=now_ns,
                severity_number=severity,
                severity_text=text,
                body=body,
                attributes={"order.id": number},
            )
        )


def make_tracer() -> trace.Tracer:
    provider = TracerProvider()
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=EXPORT_EVERY_MS)
    )
    return provider.get_tracer("checkout")


def make_logger() -> Logger:
    provider = LoggerProvider()
    provider.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(), schedule_delay_millis=EXPORT_EVERY_MS)
    )
    return provider.get_logger("checkout")


def main(payments_url: str, inventory_url: str, interval_s: str) -> None:
    checkout = Checkout(payments_url=payments_url, inventory_url=inventory_url)
    repeat(float(interval_s), checkout.place_order)


if __name__ == "__main__":
    main(*sys.argv[1:])

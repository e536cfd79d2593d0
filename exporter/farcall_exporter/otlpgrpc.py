"""The applications' listener for OTLP over gRPC: traces and logs, plain or gzip.

https://opentelemetry.io/docs/specs/otlp/#otlpgrpc: what can be retried is UNAVAILABLE. gRPC brings its own threads; a call
waits there for the pipeline, and what a request means is decided where OTLP over HTTP decides it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from farcall.effective import EffectiveConfig, read_listen_address
from farcall_exporter.asgi import Answer
from farcall_exporter.listeners import ListenError
from farcall_exporter.otlphttp import MAX_BODY_BYTES, take_request
from farcall_exporter.pipeline import BusyError, Pipeline

METHODS = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "/v1/traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "/v1/logs",
}
# Each call in flight may hold a body; what comes beyond is refused as RESOURCE_EXHAUSTED, which senders try again.
MAX_CALLS = 16
WORKERS = 4  # they only wait: the pipeline takes one request at a time
GRACE_S = 2.0
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_BODY_BYTES),  # also of what gzip unpacks to
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", MAX_CALLS),
    ("grpc.so_reuseport", 0),  # a taken port is a fault, and not somebody to share with
)
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
}


class OtlpGrpc:
    """Binds its port when it is made. Raises ListenError."""

    def __init__(self, pipeline: Pipeline, config: EffectiveConfig, endpoint: str) -> None:
        self._pipeline = pipeline
        self._counters = pipeline.context.counters
        self._server = grpc.server(
            ThreadPoolExecutor(WORKERS, thread_name_prefix="otlp-grpc"),
            options=_OPTIONS,
            maximum_concurrent_rpcs=MAX_CALLS,
        )
        for service, path in METHODS.items():
            export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
                self._make(path)
            )
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, {"Export": export}),)
            )
        try:
            host, port = read_listen_address(config, endpoint)
            # No host is every address, of both families where there are both: gRPC's "[::]" falls back by itself.
            address = f"[{host or '::'}]" if ":" in host or not host else host
            self._server.add_insecure_port(f"{address}:{port}")
        except (ValueError, RuntimeError) as e:
            raise ListenError(
                f"the OTLP listener for gRPC: cannot listen on {endpoint}: {e}"
            ) from e

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """Calls in flight get GRACE_S to end."""
        self._server.stop(GRACE_S).wait(2 * GRACE_S)

    def _make(self, path: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            return self._export(path, body, context)

        return export

    def _export(self, path: str, body: bytes, context: grpc.ServicerContext) -> bytes:
        def job() -> Answer:
            return take_request(self._pipeline, path, body, is_json=False)

        try:
            answer = self._pipeline.submit(job, len(body)).result()
        except BusyError:
            answer = Answer(status=503)
        if answer.status == 200:
            return answer.body
        if answer.status == 503:
            self._counters.add("otlp_busy", 1)
            context.abort(grpc.StatusCode.UNAVAILABLE, "the exporter or its store is busy")
        code = _CODES.get(answer.status, grpc.StatusCode.INTERNAL)
        context.abort(code, answer.detail or "the exporter failed")
        raise AssertionError  # abort raises

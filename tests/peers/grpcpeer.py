"""A gRPC peer for tests over grpcio, whose C core writes frames in another way than Go's: a server, and a client.

python grpcpeer.py serve | call ADDRESS METHOD COUNT | cancel ADDRESS      as http2peer, see http2/main.go
"""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "farcall.test.Echo"


def unary(request: bytes, _context: grpc.ServicerContext) -> bytes:
    time.sleep(int(request) / 1000)
    return request


def fail(_request: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: é")
    raise AssertionError


def stream(request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
    for _ in range(3):
        yield request
        time.sleep(int(request) / 1000)


def serve() -> None:
    server = grpc.server(ThreadPoolExecutor(32))
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0).wait()


def call(address: str, method: str, count: int) -> None:
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(32) as pool:
        path = f"/{SERVICE}/{method}"
        one = channel.unary_stream(path) if method == "Stream" else channel.unary_unary(path)

        def make(n: int) -> str:
            trace = f"00-{n + 1:032x}-{n + 1:016x}-01"
            begin = time.perf_counter()
            code = grpc.StatusCode.OK
            try:
                answer = one(b"%d" % (n % 20), timeout=30, metadata=[("traceparent", trace)])
                if method == "Stream":
                    list(answer)
            except grpc.RpcError as e:
                code = e.code()
            ms = (time.perf_counter() - begin) * 1000
            return json.dumps({"n": n, "ms": ms, "status": code.value[0], "error": ""})

        for line in pool.map(make, range(count)):
            print(line)


def cancel(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        waiting = channel.unary_unary(f"/{SERVICE}/Unary").future(b"2000")
        time.sleep(0.3)
        waiting.cancel()
        time.sleep(0.3)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    elif sys.argv[1] == "call":
        call(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        cancel(sys.argv[2])

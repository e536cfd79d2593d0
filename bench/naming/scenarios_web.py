"""Scenarios of HTTP and TLS: cases 13 and 14, where the request itself may say whom it is for."""

import asyncio
import socket

from farcall.names import NameSource
from naming.network import INSIDE
from naming.play import VISIBLE_S, Play
from naming.protocols import GRPC_PATH, build_request, send
from naming.scenarios_dns import Scenario

READ_WITHIN_S = 60.0  # an agent looks for new libraries and programs every few seconds


def http(host: str, *, looked_up: str = "", older: bool = False, others: bool = False) -> Scenario:
    """A request with this Host; `looked_up`: the name that led to the address, none for the bare address."""

    async def play(p: Play) -> None:
        client = await p.client() if older else None
        await p.reach("up")
        if others:
            other = await p.other_looks_up()
            await other.do(f"sleep {int(VISIBLE_S * 1000)}")
        client = client or await p.client()
        look_up, connect = [], p.bare
        if looked_up:
            name = words(p, looked_up)
            await p.set(name)
            look_up, connect = [f"resolve {name}"], p.connect()
        await p.judge(client, *look_up, *connect, *p.call(host=words(p, host)))

    return play


def words(p: Play, text: str) -> str:
    number = int.from_bytes(socket.inet_aton(p.ip), "big")
    return text.format(name=p.name, other=p.other, ip=p.ip, number=number, port=p.port)


async def absolute_form(p: Play) -> None:
    """RFC 9112, 3.2.2: the target's authority counts, whatever the Host says."""
    await p.reach("up")
    client = await p.client()
    request = build_request("proxy.example.com", target=f"http://{p.name}/items")
    await p.judge(client, *p.bare, send(request), "read")


async def proxy_connect(p: Play) -> None:
    await p.reach("up")
    client = await p.client()
    request = build_request(f"{p.name}:443", method="CONNECT", target=f"{p.name}:443")
    await p.judge(client, *p.bare, send(request), "read")


async def lying_host_inside(p: Play) -> None:
    await p.reach("up")
    client = await p.client()
    await p.judge(client, *p.connect(INSIDE), *p.call(host="bank.example.com"))


def hello(server_name: str, *, looked_up: bool = False, older: bool = False) -> Scenario:
    """TLS that nobody can read but for its first message."""

    async def play(p: Play) -> None:
        client = await p.client() if older else None
        await p.reach("up")
        client = client or await p.client()
        await p.set()
        first = [f"resolve {p.name}", *p.connect()] if looked_up else p.bare
        await p.judge(client, *first, *p.call(server_name=words(p, server_name)))

    return play


async def readable(p: Play) -> None:
    """TLS by a library or a program that is read: the Host in it counts. Judged once the agent has found it."""
    await p.reach("up")
    await p.set()
    if p.row.resolver == "openssl":
        client = await p.client(resolver="secure")
        steps = [f"tls {p.ip} {p.port}", *p.call(host=p.name), "close"]
    else:
        client = await p.client()
        steps = [library_step(p)]
    deadline = asyncio.get_running_loop().time() + READ_WITHIN_S
    while NameSource.HTTP not in {o.source for o in await p.lab.look_at_all(p)}:
        assert asyncio.get_running_loop().time() < deadline, "its TLS is not read"
        await client.do(*steps)
        await asyncio.sleep(1.0)
    await p.judge(client, *steps)


# ---- libraries --------------------------------------------------------------------------------------------------

# (resolver, protocol) → the client, and what it is told. A program of its own lives until the agent has read what it is.
LIBRARIES = {
    ("jvm", "http"): ("jvm", "get http://{name}:{port}/items"),
    ("jvm", "https"): ("jvm", "get https://{name}:{port}/items"),
    ("go", "http"): ("go", "get http://{name}:{port}/items"),
    ("go", "http2"): ("go", "get2 http://{name}:{port}/items"),
    ("go", "https"): ("go", "get https://{name}:{port}/items"),
    ("go", "https2"): ("go", "get2 https://{name}:{port}/items"),
    ("go", "grpc"): ("library", "run {http2_peer} call {name}:{port} Unary 1 3000"),
    ("ares", "grpc"): ("library", f"grpc {{name}} {{port}} {GRPC_PATH}"),
    ("glibc", "kafka"): ("library", "kafka {name} {port}"),
    ("glibc", "mongodb"): ("library", "mongodb {name} {port}"),
}


def library_step(p: Play) -> str:
    _, step = LIBRARIES[p.row.resolver, p.row.protocol]
    return step.format(name=p.name, port=p.port, http2_peer=p.lab.http2_peer)


async def library(p: Play) -> None:
    """A real library's own client, which looks up, connects and calls by itself."""
    await p.reach("up")
    await p.set()
    client = await p.client(resolver=LIBRARIES[p.row.resolver, p.row.protocol][0])
    await p.judge(client, library_step(p), "sleep 2000" if p.row.resolver == "jvm" else "sleep 0")


async def address_as_authority(p: Play) -> None:
    """gRPC told to say an address: what c-ares was told names the call."""
    await p.reach("up")
    await p.set()
    client = await p.client(resolver="library")
    await p.judge(client, f"grpc-as {p.ip}:{p.port} {p.name} {p.port} {GRPC_PATH}")


SCENARIOS: dict[str, Scenario] = {
    "host": http("{name}", looked_up="{name}"),
    "bare-address": http("{ip}:{port}"),
    "bare-address-others-name": http("{ip}:{port}", others=True),
    "bare-address-older": http("{ip}:{port}", older=True, others=True),
    "address-after-look-up": http("{ip}", looked_up="{name}"),
    "numeric-host": http("{number}"),
    "host-with-port": http("{name}:{port}"),
    "absolute-form": absolute_form,
    "proxy-connect": proxy_connect,
    "host-after-other-look-up": http("{name}", looked_up="{other}"),
    "lying-host-inside": lying_host_inside,
    "readable": readable,
    "library": library,
    "authority": http("{name}", looked_up="{name}"),
    "authority-with-port": http("{name}:{port}", looked_up="{name}"),
    "authority-is-address": http("{ip}:{port}", looked_up="{name}"),
    "authority-is-bare-address": http("{ip}:{port}"),
    "address-as-authority": address_as_authority,
    "lying-authority-inside": lying_host_inside,
    "sni": hello("{name}"),
    "no-sni-looked-up": hello("", looked_up=True),
    "no-sni-bare": hello(""),
    "sni-older-client": hello("{name}", older=True),
    "sni-is-address": hello("{ip}"),
}

"""Three network namespaces in a row, as a pod that calls a service: client, router, server, with cables between them.

The service's address is nobody's: the router turns it into the server's (DNAT) and puts its own address in the place of the
client's (masquerade), without which no answer would come back, since the server has no route to the client.
They have no names, so they are gone with the processes that hold them.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

CLIENT_ADDRESS, CLIENT_GATEWAY = "10.77.1.2", "10.77.1.1"
SERVER_ADDRESS, SERVER_GATEWAY = "10.77.2.2", "10.77.2.1"
SERVICE_ADDRESS = "10.96.0.7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """Held by the process `holder`."""

    holder: int

    def wrap(self, *words: str) -> list[str]:
        """`words` as a command that runs in here, under the process ID that it is started with."""
        return ["nsenter", f"--net=/proc/{self.holder}/ns/net", "--", *words]

    def run(self, *words: str) -> None:
        """Raises AssertionError with what the command said."""
        done = subprocess.run(self.wrap(*words), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """From where to call whom."""

    namespace: Namespace
    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    client: Namespace
    router: Namespace
    server: Namespace

    def offer(self, service_port: int, port: int) -> None:
        """The server's `port`, which listens to all addresses, becomes the service's `service_port`."""
        rule = f"-p tcp -d {SERVICE_ADDRESS} --dport {service_port} -j DNAT"
        to = f"--to-destination {SERVER_ADDRESS}:{port}"
        self.router.run("iptables", "-t", "nat", "-A", "PREROUTING", *f"{rule} {to}".split())

    def find_way(self, name: str, *, port: int, service_port: int) -> Way:
        """`loopback`: beside the server; `veth`: over one cable; `nat`: over two, and by the service's address."""
        if name == "loopback":
            return Way(namespace=self.server, address="127.0.0.1", port=port)
        if name == "veth":
            return Way(namespace=self.router, address=SERVER_ADDRESS, port=port)
        return Way(namespace=self.client, address=SERVICE_ADDRESS, port=service_port)


@contextmanager
def open_namespace() -> Iterator[Namespace]:
    # It ends with its standard input, so with this process too.
    command = ["unshare", "--net", "sh", "-c", "echo ready; exec cat"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n", "needs root"
        namespace = Namespace(holder=holder.pid)
        namespace.run("ip", "link", "set", "lo", "up")
        yield namespace
        holder.communicate()


def _lay_cable(left: Namespace, left_address: str, right: Namespace, right_address: str) -> None:
    names = f"to{right.holder}", f"to{left.holder}"
    left.run(*f"ip link add {names[0]} type veth peer name {names[1]} netns {right.holder}".split())
    for namespace, name, address in zip(
        (left, right), names, (left_address, right_address), strict=True
    ):
        namespace.run("ip", "addr", "add", f"{address}/24", "dev", name)
        namespace.run("ip", "link", "set", name, "up")


@contextmanager
def open_world() -> Iterator[World]:
    with ExitStack() as stack:
        client, router, server = (stack.enter_context(open_namespace()) for _ in range(3))
        _lay_cable(client, CLIENT_ADDRESS, router, CLIENT_GATEWAY)
        _lay_cable(router, SERVER_GATEWAY, server, SERVER_ADDRESS)
        client.run("ip", "route", "add", "default", "via", CLIENT_GATEWAY)
        router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        router.run(*f"iptables -t nat -A POSTROUTING -d {SERVER_ADDRESS} -j MASQUERADE".split())
        yield World(client=client, router=router, server=server)

"""Which program runs where: the FAQ's examples as real processes."""

from urllib.parse import urlsplit

from farcall_demo.network import RUN_NETNS, find_tool
from farcall_demo.plan import CLUSTER_DOMAIN, Plan
from farcall_demo.processes import App, python_app

OTLP_PORT = 4318
EVERY_S = "1"
REPORT_EVERY_S = 3.0  # a new interpreter each time: more often would only warm the room


def list_servers(plan: Plan) -> list[App]:
    """What must answer before anybody asks."""
    return [
        App(name="dns", host="dns", command=dnsmasq_command(plan)),
        App(name="managed-cache", host="external", command=redis_command(plan)),
        App(
            name="external-api",
            host="external",
            command=python_app("web", f"{plan.api}:80", f"{plan.api}:8080", f"{plan.payments}:80"),
        ),
        App(
            name="inventory", host="inventory", command=python_app("web", f"{plan.inventory}:8080")
        ),
    ]


def list_clients(plan: Plan, *, otlp_http: str) -> list[App]:
    inventory = f"http://inventory.{CLUSTER_DOMAIN}:8080"
    return [
        App(name="otlp-relay", host=None, command=relay_command(plan, otlp_http)),
        App(
            name="storefront",
            host="storefront",
            command=python_app("storefront", "http://api.example.com/api/data", EVERY_S),
        ),
        App(name="cart", host="cart", command=python_app("cart", "cache.example.com", EVERY_S)),
        App(
            name="frontend",
            host="frontend",
            command=python_app("caller", f"{inventory}/stock", EVERY_S),
        ),
        App(
            name="visitor",
            host="outside",
            command=python_app("caller", f"http://{plan.inventory}:8080/shop", EVERY_S),
        ),
        App(
            name="checkout",
            host="checkout",
            command=python_app(
                "checkout",
                "http://payments.example.com/charges",
                f"{inventory}/reservations",
                EVERY_S,
            ),
            environment={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{plan.node}:{OTLP_PORT}"},
        ),
    ]


def report_app(plan: Plan) -> App:
    """The job that knows only an address, which storefront knows by name."""
    return App(
        name="report",
        host="report",
        command=python_app("report", f"http://{plan.api}:8080/api/data"),
    )


def dnsmasq_command(plan: Plan) -> tuple[str, ...]:
    """Answers from its command line alone, and asks nobody else."""
    return (
        find_tool("dnsmasq") or "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--no-daemon",
        "--pid-file=",
        "--bind-interfaces",
        f"--listen-address={plan.resolver}",
        "--local=/local/",
        "--local=/com/",
        "--local=/net/",
        "--local-ttl=30",
        *[f"--host-record={name},{address}" for name, address in plan.records.items()],
        *[f"--cname={alias},{name}" for alias, name in plan.aliases.items()],
    )


def redis_command(plan: Plan) -> tuple[str, ...]:
    return (
        find_tool("redis-server") or "redis-server",
        "--bind",
        plan.cache,
        "--port",
        "6379",
        "--save",
        "",
        "--appendonly",
        "no",
        "--protected-mode",
        "no",
        "--dir",
        "/tmp",
    )


def relay_command(plan: Plan, otlp_http: str) -> tuple[str, ...]:
    target = urlsplit(otlp_http)
    return python_app(
        "relay",
        str(RUN_NETNS / plan.namespace("node")),
        f"{plan.node}:{OTLP_PORT}",
        f"{target.hostname}:{target.port or OTLP_PORT}",
    )

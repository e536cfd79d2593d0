"""`farcall console`: the web application and the HTTP API as a process. Reads config and secrets, then serves.

The only module of this room that opens sockets, files and the store.
"""

import asyncio
import socket
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from urllib.parse import urlsplit

import uvicorn

import farcall_store
from farcall import component, journal, secretfiles
from farcall.commands import EXIT_FAULT, EXIT_OK
from farcall.effective import EffectiveConfig
from farcall_console.access import Access
from farcall_console.application import Parts, build_application
from farcall_console.assets import AssetsError, read_assets
from farcall_console.border import build_allowed_hosts
from farcall_console.configuration import LiveConfig

NAME = "console"
BACKLOG = 128
KEEP_ALIVE_S = 30

log = journal.get_log(NAME)


def main(argv: Sequence[str]) -> int:
    launch = component.parse_launch(NAME, "the web application and the HTTP API", argv, _add)
    journal.configure(NAME)
    config = launch.watcher.current
    try:
        parts = build_parts(launch)
    except (secretfiles.SecretError, AssetsError) as e:
        component.refuse(NAME, str(e))
    try:
        listener = listen(config)
    except OSError as e:
        log.error("cannot listen", address=config.endpoints.console, error=str(e))
        return EXIT_FAULT
    with listener:
        asyncio.run(serve(parts, listener, launch))
    return EXIT_OK


def _add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name that people use to reach the console (an ingress); may be repeated",
    )


def build_parts(launch: component.Launch) -> Parts:
    """Raises SecretError or AssetsError. The store is not asked: it may start after us."""
    config = launch.watcher.current
    directory = config.secrets_dir
    access = Access(
        api_token=secretfiles.read_secret(directory, secretfiles.API_TOKEN),
        admin_secret=secretfiles.read_secret(directory, secretfiles.ADMIN_SECRET),
        cookie_key=secretfiles.read_secret(directory, secretfiles.COOKIE_KEY),
        # Cookies know no ports: two instances on one host must not sign each other out.
        cookie_name=f"farcall-{config.name}",
        is_https=config.endpoints.console.startswith("https:"),
        clock=time.time,
    )
    user, password = secretfiles.read_store_login(
        directory, "reader", secretfiles.STORE_READER_PASSWORD
    )
    return Parts(
        reader=farcall_store.open_reader(config.endpoints.store, user=user, password=password),
        access=access,
        live_config=LiveConfig(launch.watcher),
        assets=read_assets(),
        allowed_hosts=build_allowed_hosts(config.endpoints.console, launch.extra.allow_host),
    )


def listen(config: EffectiveConfig) -> socket.socket:
    """In a pod on every address (the config names the Service), locally on the one configured. Raises OSError."""
    url = urlsplit(config.endpoints.console)
    port = url.port or 80
    if config.mode == "kubernetes":
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        return socket.create_server(("", port), family=family, backlog=BACKLOG, dualstack_ipv6=dual)
    family = socket.AF_INET6 if ":" in (url.hostname or "") else socket.AF_INET
    return socket.create_server((url.hostname or "127.0.0.1", port), family=family, backlog=BACKLOG)


async def serve(parts: Parts, listener: socket.socket, launch: component.Launch) -> None:
    server = uvicorn.Server(
        uvicorn.Config(
            build_application(parts),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=component.STOP_WITHIN_S // 2,
            lifespan="on",
        )
    )
    # uvicorn stops by itself at a signal and then raises it once more, for the handler it found: ours, which lets the
    # process end with exit code 0.
    component.on_stop(lambda: None)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]))
        group.create_task(_announce(server, launch))


async def _announce(server: uvicorn.Server, launch: component.Launch) -> None:
    while not server.started:
        if server.should_exit:
            return
        await asyncio.sleep(0.01)
    launch.mark_ready()
    log.info("serving", address=launch.watcher.current.endpoints.console)

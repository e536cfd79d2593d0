"""What each agent runs, asked of the exporter: the agents report to it, and the operator has no other way to them.

One request with a short time limit. An exporter that is not there yet, or a token that it does not take, is a sentence
and no error: status is what this is for, and nothing is decided by it.
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from farcall.envelope import AGENTS_PATH, MAX_AGENTS_BYTES, parse_agents
from farcall.tlsfiles import TlsFileError, make_client_context_of
from farcall_operator.context import AgentRun

WITHIN_S = 3.0
# `scheme://host:port` of the ingest listener, for an operator that runs outside the cluster (behind a port-forward).
URL_OVERRIDE = "FARCALL_OPERATOR_EXPORTER_URL"
MAX_WHY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsAnswer:
    """`problem` says why `runs` is empty; "" when the exporter answered, and then no run means that no agent has spoken.

    `store_trouble` is the exporter's word for why it can store nothing; "" when it can.
    """

    runs: tuple[AgentRun, ...] = ()
    problem: str = ""
    store_trouble: str = ""


async def fetch_agents(
    url: str,
    token: str,
    ca_pem: str = "",
    *,
    environment: Mapping[str, str] | None = None,
    within_s: float = WITHIN_S,
) -> AgentsAnswer:
    """`url` is the config's `endpoints.exporter_ingest`. Never raises but when it is cancelled."""
    given = (os.environ if environment is None else environment).get(URL_OVERRIDE, "")
    try:
        async with asyncio.timeout(within_s):
            body = await _read(given or url, token, ca_pem, server=urlsplit(url).hostname)
        said = parse_agents(body)
    except TimeoutError:
        return AgentsAnswer(problem=f"The exporter did not answer within {within_s:g} s.")
    except (aiohttp.ClientError, OSError, ValueError, TlsFileError) as e:
        why = str(e) or type(e).__name__
        return AgentsAnswer(
            problem=f"The exporter could not be asked for the agents: {why[:MAX_WHY]}"
        )
    return AgentsAnswer(
        runs=tuple(
            AgentRun(
                node=s.node,
                version=s.version,
                config_generation=s.config_generation,
                config_revision=s.config_revision,
                age_s=s.age_s,
                cache_trouble=s.cache_trouble,
            )
            for s in said.agents
        ),
        store_trouble=said.store_trouble,
    )


async def _read(base: str, token: str, ca_pem: str, *, server: str | None) -> bytes:
    """The body. Raises ValueError for an answer that is none, and what aiohttp raises."""
    secured = base.startswith("https:")
    context = make_client_context_of(ca_pem) if secured else False
    # A new connection each time: with several exporters behind the Service, and certificates that are renewed, that is
    # simpler than keeping one. trust_env stays off: a proxy has no business between these two.
    async with (
        aiohttp.ClientSession(headers={"authorization": f"Bearer {token}"}) as session,
        session.get(
            base.rstrip("/") + AGENTS_PATH,
            ssl=context,
            server_hostname=server if secured else None,
            allow_redirects=False,
        ) as answer,
    ):
        if answer.status != 200:
            raise ValueError(f"it answered {answer.status} {answer.reason or ''}".strip())
        return await _read_bounded(answer.content)


async def _read_bounded(content: aiohttp.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_chunked(65_536):
        parts.append(part)
        size += len(part)
        if size > MAX_AGENTS_BYTES:
            raise ValueError(f"its answer is longer than {MAX_AGENTS_BYTES} bytes")
    return b"".join(parts)

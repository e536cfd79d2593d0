"""What an agent says of itself, for tests that care for other things."""

from typing import Any

from farcall.envelope import AgentStatus


def make_agent_status(**changes: Any) -> AgentStatus:
    status: dict[str, Any] = {
        "node": "n1",
        "boot_id": "0" * 32,
        "version": "1",
        "time_ns": 1,
        "started_ns": 1,
        "config_generation": 1,
        "dns_ttl_s": 1,
        "dns_ttl_overridden": False,
        "kernel": "6",
        "capabilities": (),
    }
    return AgentStatus(**{**status, **changes})

"""What the status page and `/api/v1/status` say: who spoke last, what is off, what was lost. Pure.

A warning is a sentence that a person should read; there is none that asks for nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from farcall.api import ComponentStatus, Status
from farcall.effective import EffectiveConfig

NS = 1_000_000_000
ALIVE_WITHIN_S = 30  # components speak every few seconds; several in a row were missed
FORGET_AFTER_S = 24 * 3_600  # a pod that was replaced yesterday is not news
LOSS_SUFFIXES = ("_lost", "_dropped", "_refused")
FOLLOWED_WITHIN_S = 100  # the kubelet takes up to 90 s to bring a changed file to a pod
NOT_LOSSES = ("expired_days_dropped",)  # what retention takes away was promised to go


def build_status(
    config: EffectiveConfig,
    components: Sequence[ComponentStatus],
    *,
    version: str,
    now_ns: int,
    config_changed_ns: int = 0,
    faults: Sequence[str] = (),
) -> Status:
    """`faults` are sentences about what could not be read at all; they come first.

    Others get the time that a change takes to reach them before it is said that they run another config.
    """
    current = [_judge(c, now_ns) for c in components if _age_s(c, now_ns) < FORGET_AFTER_S]
    current.sort(key=lambda c: (c.kind, c.name))
    return Status(
        name=config.name,
        version=version,
        tier=config.tier,
        dns_ttl_s=config.dns.effective_ttl_s,
        dns_ttl_overridden=config.dns.ttl_override_s is not None,
        cluster_cidrs=tuple(config.cluster_cidrs),
        config_generation=config.generation,
        components=tuple(current),
        config_revision=config.revision,
        cluster_cidrs_source=config.cluster_cidrs_source,
        warnings=(
            *faults,
            *_warnings(
                config,
                current,
                has_faults=bool(faults),
                is_settled=now_ns - config_changed_ns > FOLLOWED_WITHIN_S * NS,
            ),
        ),
    )


def losses_of(component: ComponentStatus) -> dict[str, int]:
    """Counters of what was lost, those that are not zero."""
    return {
        name: int(value)
        for name, value in component.counters.items()
        if name.endswith(LOSS_SUFFIXES)
        and name not in NOT_LOSSES
        and value.isdecimal()
        and int(value)
    }


def _judge(component: ComponentStatus, now_ns: int) -> ComponentStatus:
    """Alive is not what a component said of itself, but how long ago it said anything."""
    return replace(component, alive=_age_s(component, now_ns) <= ALIVE_WITHIN_S)


def _age_s(component: ComponentStatus, now_ns: int) -> float:
    return (now_ns - int(component.seen_ns)) / NS


def _warnings(
    config: EffectiveConfig,
    components: Sequence[ComponentStatus],
    *,
    has_faults: bool,
    is_settled: bool,
) -> Iterator[str]:
    if config.dns.ttl_override_s is not None:
        yield (
            f"The DNS time to live is overridden: {config.dns.ttl_override_s} s instead of the "
            f"{config.tier} tier's {config.dns.ttl_s} s. This is for tests only; names expire early."
        )
    if not has_faults and not any(c.kind == "agent" and c.alive for c in components):
        yield "No agent speaks: no call is seen. Look at the agents' logs, and run: farcall doctor"
    for component in components:
        yield from _component_warnings(config, component, is_settled=is_settled)


def _component_warnings(
    config: EffectiveConfig, component: ComponentStatus, *, is_settled: bool
) -> Iterator[str]:
    who = f"The {component.kind} {component.name}"
    if not component.alive:
        yield f"{who} has said nothing for more than {ALIVE_WITHIN_S} s."
        return
    if is_settled and component.config_generation != config.generation:
        yield (
            f"{who} runs generation {component.config_generation} of the config; "
            f"the current one is {config.generation}."
        )
    elif is_settled and component.config_revision not in ("", config.revision):
        yield (
            f"{who} runs revision {component.config_revision} of the config; "
            f"the current one is {config.revision}."
        )
    off = [c["name"] for c in component.capabilities if c.get("on") != "true"]
    if off:
        yield f"{who} cannot see everything: {', '.join(off)} is off. The table below says why."
    losses = losses_of(component)
    if losses:
        listed = ", ".join(f"{name} {count}" for name, count in losses.items())
        yield f"{who} has lost something since it started: {listed}."

"""One TracingConfig made true, whatever happened to it: told which, it looks at everything and does what is missing.

Reads what the watches have told, asks the cluster for what they do not tell, applies, prunes, and writes the status once.
It writes nothing else of the resource. Everything that is decided is decided in pure modules; here they are put in order.
"""

import hashlib
import json
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed_version
from typing import Any

from farcall.tracingconfig import InvalidConfigError, TracingConfig, check_tracingconfig
from farcall_operator.agents import fetch_agents
from farcall_operator.applying import Applier
from farcall_operator.children import Memory, Owner, is_newer
from farcall_operator.cluster.packed import unpack
from farcall_operator.cluster.port import Cluster, ClusterError, Manifest, Observed, Outcome, Wake
from farcall_operator.conditions import READY, STALLED, read_conditions, read_false_since
from farcall_operator.context import Context, Credentials, Discovery
from farcall_operator.credentials import ensure_credentials
from farcall_operator.describing import read_override
from farcall_operator.discovery import discover
from farcall_operator.exporters import Exporters, FetchAgents, wake_nobody
from farcall_operator.kubernetes import build_manifests, build_owner_references
from farcall_operator.notices import Notices
from farcall_operator.overlap import find_overlap
from farcall_operator.problems import Problem, bound_text
from farcall_operator.surroundings import Surroundings
from farcall_operator.telling import Pass, Teller, list_reasons
from farcall_operator.volumes import Volumes

# Secrets are not watched, and reading them costs requests: within a burst of events once. Who used what was read before
# comes back when that is old, and whoever comes after a quiet time (the resync) reads them.
CREDENTIALS_FOR = timedelta(seconds=10)
# An edit does not wait for that: it is applied with what was read before, if it asks for the same Secrets, and they are read
# right after.
EDITED_AGAIN_S = 1.0
EDITED_WITH = timedelta(minutes=15)
# What happens outside our watches: a human mends a quota, a storage class; a child lost its labels.
STALLED_AGAIN_S = 60.0
SOONEST_S, LATEST_S = 3.0, 300.0  # while something is on its way: half of how long it has been

Discover = Callable[[], Awaitable[Discovery]]
EnsureCredentials = Callable[
    [Cluster, TracingConfig, str, list[dict[str, Any]], datetime], Awaitable[Credentials]
]
Build = Callable[[TracingConfig, Context], list[Manifest]]


@dataclass(slots=True)
class _Held:
    """What was read of a TracingConfig's Secrets. `question`: all of the spec that decides which are read, and how."""

    question: str
    generation: int
    since: datetime
    credentials: Credentials


class ClusterReconciler:
    """Use one for all TracingConfigs of a cluster: it remembers what it did, and loses nothing when it is lost."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        observed: Observed,
        namespace: str,
        discover: Discover | None = None,
        ensure_credentials: EnsureCredentials = ensure_credentials,
        build: Build = build_manifests,
        fetch: FetchAgents = fetch_agents,
        wake: Wake = wake_nobody,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        version: str = installed_version("farcall"),
        host: str = "",
    ) -> None:
        self.cluster = cluster
        self.observed = observed
        self.namespace = namespace
        self._discover = discover or self._discover_here
        self._ensure_credentials = ensure_credentials
        self._build = build
        self._clock = clock
        self._memories: dict[str, Memory] = {}
        self._held: dict[str, _Held] = {}  # by uid
        self.surroundings = Surroundings(cluster=cluster, namespace=namespace)
        self.exporters = Exporters(fetch=fetch, wake=wake)
        self.notices = Notices(cluster=cluster, host=host)
        self._teller = Teller(
            cluster=cluster,
            observed=observed,
            surroundings=self.surroundings,
            exporters=self.exporters,
            notices=self.notices,
            version=version,
        )

    async def reconcile(self, name: str) -> Outcome:
        config = self.observed.config(name)
        if config is None or config["metadata"].get("deletionTimestamp"):
            self._forget(name)  # its children go by their owner references
            return Outcome()
        work = self._begin(config)
        valid = self._judge(work)
        if valid is not None:
            try:
                await self._make_true(work, valid)
            except ClusterError as e:
                work.report.note(e, None, "look at the cluster")
        status = await self._teller.tell(work)
        if work.report.errors:
            raise work.report.errors[0]
        return Outcome(
            again_in_s=self._plan_next(work, status),
            writes=work.report.writes,
            reasons=list_reasons(status),
        )

    # ---- What is to be done -------------------------------------------------------------------------------------

    def _begin(self, config: Manifest) -> Pass:
        metadata = config["metadata"]
        memory = self._memories.get(metadata["name"])
        if memory is None or memory.uid != metadata["uid"]:
            self._forget(metadata["name"])
            memory = self._memories[metadata["name"]] = Memory(uid=metadata["uid"])
        if memory.status is not None and not is_newer(memory.status, config):
            memory.status = None  # the watch has caught up
        newest = config if memory.status is None else unpack(memory.status)
        return Pass(
            config=config,
            memory=memory,
            now=self._clock(),
            children=self.observed.children(metadata["name"]),
            before=newest.get("status") or {},
        )

    def _judge(self, work: Pass) -> TracingConfig | None:
        """The checked resource; None when nothing is to be touched, which is noted."""
        if (work.config.get("spec") or {}).get("paused") is True:
            work.paused = True
            return None
        try:
            valid = check_tracingconfig(work.config, source=work.name)
        except InvalidConfigError as e:
            sentences = "; ".join(bound_text(problem, 300) for problem in e.problems[:10])
            work.report.problems.append(Problem(reason="Invalid", message=f"{sentences}."))
            return None
        if overlap := find_overlap(work.config, self.observed.configs()):
            work.report.problems.append(Problem(reason="Overlap", message=overlap))
            return None
        return valid

    async def _make_true(self, work: Pass, valid: TracingConfig) -> None:
        work.discovery = await self._discover()
        work.credentials = await self._find_credentials(work, valid)
        self._note_problems(work, valid)
        context = Context(
            namespace=self.namespace,
            discovery=work.discovery,
            credentials=work.credentials,
            has_service_monitors=await self.surroundings.has_service_monitors(work.now),
        )
        work.desired, work.architectures = self._render(work, valid, context), context.architectures
        if override := read_override(work.desired):
            work.report.notes.append(override)
        applier = Applier(
            cluster=self.cluster,
            owner=Owner(name=work.name, uid=work.memory.uid),
            observed=work.children,
            note=self.observed.note,
            memory=work.memory,
            now=work.now,
            report=work.report,
        )
        fitted = await Volumes(applier=applier, explicit=list_explicit_claims(valid)).fit(
            work.desired
        )
        await applier.apply(fitted)
        await applier.prune(work.desired)
        self._pack_rendered(work)

    def _render(self, work: Pass, valid: TracingConfig, context: Context) -> list[Manifest]:
        """Rendering is most of a pass, and most passes are about a pod: the same question gets the packed answer."""
        digest = hash_question(valid, context)
        if work.memory.rendered is not None and work.memory.rendered[0] == digest:
            found: list[Manifest] = json.loads(zlib.decompress(work.memory.rendered[1]))
            return found
        built = self._build(valid, context)
        work.memory.rendered = None
        work.unpacked = digest
        return built

    def _pack_rendered(self, work: Pass) -> None:
        """Once all is applied, which an edit waits for. Nobody changes what is desired: volumes are fitted in copies."""
        if work.unpacked is not None and work.desired is not None:
            text = json.dumps(work.desired, separators=(",", ":"))
            work.memory.rendered = (work.unpacked, zlib.compress(text.encode(), 1))

    async def _discover_here(self) -> Discovery:
        return await discover(self.cluster, self.observed, namespace=self.namespace)

    async def _find_credentials(self, work: Pass, valid: TracingConfig) -> Credentials:
        question = ask_credentials(valid)
        held = self._held.get(work.memory.uid)
        if held is not None and self._may_use(held, question, work):
            return held.credentials
        owners = build_owner_references(valid)
        found = await self._ensure_credentials(
            self.cluster, valid, self.namespace, owners, work.now
        )
        work.report.writes += found.writes
        self._held[work.memory.uid] = _Held(question, work.generation, work.now, found)
        return found

    def _may_use(self, held: _Held, question: str, work: Pass) -> bool:
        credentials, age = held.credentials, work.now - held.since
        if held.question != question or credentials.problems:
            return False
        if credentials.renew_at is not None and credentials.renew_at <= work.now:
            return False
        if age < CREDENTIALS_FOR:
            work.rest_s = (CREDENTIALS_FOR - age).total_seconds()
        elif held.generation != work.generation and age < EDITED_WITH:
            work.rest_s = EDITED_AGAIN_S
        else:
            return False
        held.generation = work.generation
        return True

    def _note_problems(self, work: Pass, valid: TracingConfig) -> None:
        for problem in work.credentials.problems:
            sentence = f"{bound_text(problem).rstrip('.')}."  # there may be several
            work.report.problems.append(Problem(reason="Credentials", message=sentence))
        told = " ".join(bound_text(problem) for problem in work.discovery.problems)
        if not told:
            return
        if valid.spec.cluster_cidrs is None and not work.discovery.cidrs:
            work.report.problems.append(Problem(reason="NetworksUnknown", message=told))
        else:
            work.report.notes.append(told)

    def _plan_next(self, work: Pass, status: Manifest) -> float | None:
        waits: list[float] = [] if work.rest_s is None else [work.rest_s]
        conditions = read_conditions(status)
        if conditions[STALLED].status == "True" or work.unwatched:
            waits.append(STALLED_AGAIN_S)
        elif conditions[READY].status == "False":
            since = read_false_since(status, READY) or work.now
            waits.append(min(max((work.now - since).total_seconds() / 2, SOONEST_S), LATEST_S))
        if work.credentials.renew_at is not None:
            waits.append(max((work.credentials.renew_at - work.now).total_seconds(), SOONEST_S))
        return min(waits, default=None)

    def _forget(self, name: str) -> None:
        memory = self._memories.pop(name, None)
        if memory is not None:
            self._held.pop(memory.uid, None)
            self.exporters.forget(memory.uid)


def ask_credentials(valid: TracingConfig) -> str:
    """All of the spec that `ensure_credentials` looks at: a longer answer than needed costs a read, a shorter one is wrong."""
    spec = valid.spec
    exporter = spec.exporter
    asked = (
        spec.tls,
        spec.dns_cache and spec.dns_cache.existing_secret,
        spec.images and spec.images.pull_secrets,
        exporter and (exporter.clickhouse, exporter.otlp),
    )
    return repr(asked)


def hash_question(valid: TracingConfig, context: Context) -> bytes:
    """Of all that desired state is computed from; how many Secrets were written just now is not part of it."""
    credentials = context.credentials and replace(context.credentials, writes=0)
    text = valid.model_dump_json() + repr(replace(context, credentials=credentials))
    return hashlib.sha256(text.encode()).digest()


def list_explicit_claims(config: TracingConfig) -> frozenset[str]:
    """Claims whose size the resource gives itself."""
    name, spec = config.metadata.name, config.spec
    found = set()
    if spec.exporter and spec.exporter.storage and spec.exporter.storage.size:
        found.add(f"{name}-store")
    if spec.dns_cache and spec.dns_cache.persistence and spec.dns_cache.persistence.size:
        found.add(f"data-{name}-redis-0")
    return frozenset(found)

"""Volume claims only ever grow. What the desired manifests ask of a claim that exists is bent to that here.

A claim's other fields can never change, and it is never recreated: what it holds cannot be made again. A StatefulSet's
claim belongs to the template it was made from, so it is grown by itself and the template follows by recreation.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from farcall_operator.applying import Applier
from farcall_operator.cluster.port import ClusterError, Manifest, Ref, ref_of
from farcall_operator.comparing import parse_quantity
from farcall_operator.problems import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """`explicit`: claims whose size the resource gives itself; only there is a smaller one a fault."""

    applier: Applier
    explicit: frozenset[str] = frozenset()

    async def fit(self, desired: Sequence[Manifest]) -> list[Manifest]:
        return [await self._fit_noting(manifest) for manifest in desired]

    async def _fit_noting(self, manifest: Manifest) -> Manifest:
        try:
            if manifest["kind"] == "PersistentVolumeClaim":
                return await self._fit_claim(manifest)
            if manifest["kind"] == "StatefulSet" and read_templates(manifest):
                return await self._fit_templates(manifest)
        except ClusterError as e:
            self.applier.report.note(e, ref_of(manifest), "size the volume of")
        return manifest

    async def _fit_claim(self, manifest: Manifest) -> Manifest:
        live = self.applier.observed.get(ref_of(manifest))
        if live is None:
            live = await self.applier.cluster.get(ref_of(manifest))
        if live is None:
            return manifest
        return {**manifest, "spec": await self._fit_spec(ref_of(manifest), manifest["spec"], live)}

    async def _fit_templates(self, manifest: Manifest) -> Manifest:
        fitted = copy.deepcopy(manifest)
        for template in read_templates(fitted):
            ref = claim_ref(manifest, template["metadata"]["name"])
            live = await self._find_claim(ref, template)
            if live is None:
                continue
            template["spec"] = await self._fit_spec(ref, template["spec"], live)
            await self._grow(ref, template["spec"], live)
        return fitted

    async def _find_claim(self, ref: Ref, template: Manifest) -> Manifest | None:
        """Asked for only where the size in the StatefulSet is a new one: usually the watch does not tell of it."""
        told = self.applier.observed.get(ref)
        if told is not None:
            return told
        size = read_size(template["spec"])
        if self.applier.memory.claims.get(ref) == size:
            return None
        found = await self.applier.cluster.get(ref)
        if found is not None and parse_quantity(read_size(found["spec"])) == parse_quantity(size):
            self.applier.memory.claims[ref] = size
        return found

    async def _fit_spec(self, ref: Ref, wanted: Manifest, live: Manifest) -> Manifest:
        """`wanted` with what cannot be had replaced by what is there."""
        there = live["spec"]
        fitted = dict(wanted)
        given, has = wanted.get("storageClassName"), there.get("storageClassName")
        if given and has and given != has:
            words = f"is of the storage class {has}, not {given}; a volume cannot move."
            self._complain(ref, "VolumeImmutable", f"{words} Delete it if what it holds may go.")
            fitted["storageClassName"] = has
        asked, held = parse_quantity(read_size(wanted)), parse_quantity(read_size(there))
        if asked is None or held is None or asked == held:
            return fitted
        if asked < held:
            if ref.name in self.explicit:
                words = f"has {read_size(there)} and cannot shrink to {read_size(wanted)}."
                self._complain(ref, "VolumeShrink", words)
            else:
                kept = f"keeps {read_size(there)}: volumes do not shrink."
                self.applier.report.notes.append(f"The volume claim {ref.name} {kept}")
            return with_size(fitted, there)
        return fitted if await self._may_grow(ref, wanted, there) else with_size(fitted, there)

    async def _may_grow(self, ref: Ref, wanted: Manifest, there: Manifest) -> bool:
        name = there.get("storageClassName") or ""
        found = name and await self.applier.cluster.get(
            Ref("storage.k8s.io/v1", "StorageClass", "", name)
        )
        if found and found.get("allowVolumeExpansion"):
            return True
        self._complain(
            ref,
            "VolumeCannotGrow",
            f"has {read_size(there)} and cannot grow to {read_size(wanted)}: "
            + (
                f"the storage class {name} does not allow it."
                if name
                else "it has no storage class."
            ),
        )
        return False

    async def _grow(self, ref: Ref, wanted: Manifest, live: Manifest) -> None:
        if parse_quantity(read_size(wanted)) == parse_quantity(read_size(live["spec"])):
            return
        size = read_size(wanted)
        self.applier.report.writes += 1
        patch = {"spec": {"resources": {"requests": {"storage": size}}}}
        self.applier.note(await self.applier.cluster.merge(ref, patch))
        self.applier.memory.claims[ref] = size

    def _complain(self, ref: Ref, reason: str, words: str) -> None:
        message = f"The volume claim {ref.name} {words}"
        self.applier.report.problems.append(Problem(reason=reason, message=message, ref=ref))


def read_templates(manifest: Manifest) -> list[dict[str, Any]]:
    return manifest["spec"].get("volumeClaimTemplates") or []


def claim_ref(stateful_set: Manifest, template: str) -> Ref:
    """Of the first pod: the cache has one."""
    metadata = stateful_set["metadata"]
    name = f"{template}-{metadata['name']}-0"
    return Ref("v1", "PersistentVolumeClaim", metadata.get("namespace", ""), name)


def read_size(claim: Manifest) -> str:
    return str(((claim.get("resources") or {}).get("requests") or {}).get("storage", ""))


def with_size(wanted: Manifest, there: Manifest) -> Manifest:
    return {**wanted, "resources": {"requests": {"storage": read_size(there)}}}

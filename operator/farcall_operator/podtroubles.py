"""What is wrong with one pod, from its own status. Pure; None when nothing is.

The words are the container's, the kubelet's and the registry's: they are bounded and escaped here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from farcall_operator.cluster.port import Manifest
from farcall_operator.problems import bound_text

MAX_WORDS = 300
LAST_LINES = 3  # of a crashed container's output: the error is at the end
_PULL = frozenset(
    ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable",
     "ImageInspectError", "SignatureValidationFailed")
)  # fmt: skip
_CONFIG = frozenset(("CreateContainerConfigError", "CreateContainerError", "RunContainerError"))
# The kubelet puts the registry's words behind these.
_BEFORE_WORDS = ("ErrImagePull: ", "RegistryUnavailable: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTrouble:
    reason: str
    words: str  # no full stop at the end: it becomes part of a sentence


def read_pod(pod: Manifest) -> PodTrouble | None:
    status: dict[str, Any] = pod.get("status") or {}
    if status.get("phase") == "Failed":
        return _read_failed(status)
    if trouble := _read_scheduling(status):
        return trouble
    for container in _list_containers(status):
        if trouble := _read_container(container, pod):
            return trouble
    return None if _is_ready(status) else PodTrouble(reason="NotReady", words=_tell_unready(status))


def _read_failed(status: dict[str, Any]) -> PodTrouble:
    words = bound_text(str(status.get("message") or "the pod has failed"), MAX_WORDS)
    reason = "Evicted" if status.get("reason") == "Evicted" else "PodFailed"
    return PodTrouble(reason=reason, words=words.rstrip("."))


def _read_scheduling(status: dict[str, Any]) -> PodTrouble | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") != "PodScheduled" or condition.get("status") != "False":
            continue
        words = str(condition.get("message") or "no node takes it")
        reason = "VolumePending" if "persistentvolumeclaim" in words.lower() else "Unschedulable"
        # The scheduler's later sentences (claims, preemption) are about what it tried, and help nobody here.
        first = words.partition(" preemption:")[0].partition(" no new claims")[0]
        return PodTrouble(reason=reason, words=bound_text(first, MAX_WORDS).rstrip(".,"))
    return None


def _list_containers(status: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _read_container(container: dict[str, Any], pod: Manifest) -> PodTrouble | None:
    state: dict[str, Any] = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, words = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    name = container.get("name", "")
    if reason in _PULL:
        image = bound_text(str(container.get("image") or ""), MAX_WORDS)
        told = bound_text(_registry_words(words, reason), MAX_WORDS).rstrip(".")
        return PodTrouble(reason="ImagePull", words=f"the image {image} cannot be pulled: {told}")
    if reason in _CONFIG:
        told = bound_text(words or reason, MAX_WORDS).rstrip(".")
        return PodTrouble(reason="ContainerConfig", words=f"{name} cannot start: {told}")
    if container.get("ready"):
        return None
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    return _read_end(ended, container, pod) if ended else None


def _registry_words(words: str, reason: str) -> str:
    """The same whether the kubelet is pulling or waiting to: otherwise the message would change every minute."""
    for mark in _BEFORE_WORDS:
        if mark in words:
            return words.rpartition(mark)[2]
    return words or reason


def _read_end(ended: dict[str, Any], container: dict[str, Any], pod: Manifest) -> PodTrouble | None:
    name = container.get("name", "")
    if ended.get("reason") == "OOMKilled":
        limit = _find_limit(pod, name)
        told = f" of {limit}" if limit else ""
        return PodTrouble(
            reason="OOMKilled",
            words=f"{name} was killed because it used more than its memory limit{told}",
        )
    code = ended.get("exitCode", 0)
    if code == 0:
        return None
    last = _last_words(str(ended.get("message") or ""))
    said = f'; its last words: "{last}"' if last else "; it left no last words"
    return PodTrouble(reason="CrashLoop", words=f"{name} ended with exit code {code}{said}")


def _last_words(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return bound_text(" | ".join(line[:MAX_WORDS] for line in lines[-LAST_LINES:]), MAX_WORDS)


def _find_limit(pod: Manifest, container: str) -> str:
    for spec in (pod.get("spec") or {}).get("containers") or ():
        if spec.get("name") == container:
            return str(((spec.get("resources") or {}).get("limits") or {}).get("memory", ""))
    return ""


def _is_ready(status: dict[str, Any]) -> bool:
    conditions = status.get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _tell_unready(status: dict[str, Any]) -> str:
    unready = [str(c.get("name")) for c in _list_containers(status) if not c.get("ready")]
    return f"{', '.join(unready)} not ready yet" if unready else "not ready yet"

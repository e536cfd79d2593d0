"""What keeps a TracingConfig from being as it is desired, by the reasons that status shows. Pure."""

from dataclasses import dataclass

from farcall.terminal import escape_text
from farcall_operator.cluster.port import ClusterError, Ref

MAX_MESSAGE = 1_024  # characters of one sentence: status is read by people
TRANSIENT = frozenset((0, 408, 409, 429))


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """`is_transient`: it may pass by itself, so that it is tried again soon; otherwise somebody must act."""

    reason: str
    message: str
    ref: Ref | None = None
    is_transient: bool = False


def describe_ref(ref: Ref) -> str:
    where = f"{ref.namespace}/" if ref.namespace else ""
    return f"{ref.kind} {where}{ref.name}"


def bound_text(text: str, most: int = MAX_MESSAGE) -> str:
    """Text of a container, a registry or a webhook: on one line, harmless in a terminal, and no longer than `most`."""
    short = text.strip()[: most + 1]
    found = escape_text(" ".join(short.split()))
    return found if len(found) <= most else found[: most - 1] + "…"


def explain_error(error: ClusterError, ref: Ref | None, doing: str) -> Problem:
    """`doing` as in `apply`. A refusal by name where there is one, since each has another cure."""
    what = f" {describe_ref(ref)}" if ref else ""
    is_transient = is_passing(error)
    return Problem(
        reason="ApiError" if is_transient else name_refusal(error),
        message=bound_text(f"Cannot {doing}{what}: {error.message}"),
        ref=ref,
        is_transient=is_transient,
    )


def is_passing(error: ClusterError) -> bool:
    """A manifest of the wrong shape (a text where a map belongs) is answered with 500, and stays so."""
    is_misshapen = "failed to create typed patch object" in error.message
    return (error.status in TRANSIENT or error.status >= 500) and not is_misshapen


def name_refusal(error: ClusterError) -> str:
    """The API server answers 403 for four different things, and only the words tell them apart."""
    if named := name_forbidden(error.message):
        return named
    if error.status in (401, 403):
        return "Forbidden"
    return "Rejected"


def name_forbidden(message: str) -> str:
    """Empty when it is none of the known refusals; also for the words in events and conditions."""
    text = message.lower()
    if "podsecurity" in text:
        return "PodSecurity"
    if "exceeded quota" in text or "failed quota" in text or "limitrange" in text:
        return "Quota"
    if "admission webhook" in text or "validatingadmissionpolicy" in text:
        return "AdmissionRefused"
    return ""

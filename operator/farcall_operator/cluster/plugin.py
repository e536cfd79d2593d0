"""A bearer token from the credential plugin that a kubeconfig names, as clouds have them (client.authentication.k8s.io).

The program is the user's own choice, run as kubectl runs it. What it prints on standard output is a secret: no message
holds any of it. Plugins that give client certificates instead of a token are refused.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from farcall_operator.cluster.access import AccessError, Token

VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
ANSWER_WITHIN_S = 60.0  # it may ask a person for a second factor
# Asked again before its time is over, so that no request goes out with a token that expires on the way.
EARLIER_S = 30.0


class PluginToken(Token):
    """Blocks while the plugin runs: for commands, and rarely, since a token lasts for minutes."""

    def __init__(self, run: Callable[[], dict[str, Any]], now: Callable[[], float] = time.time):
        super().__init__()
        self._run = run
        self._now = now
        self._until: float | None = None

    def current(self) -> str:
        if not self._value or (self._until is not None and self._now() >= self._until - EARLIER_S):
            self.refresh()
        return self._value

    def refresh(self) -> bool:
        """Whether another token came. A plugin that fails leaves the token known before; the first time it raises."""
        try:
            status = self._run()
        except AccessError:
            if not self._value:
                raise
            return False
        value, before = str(status.get("token") or ""), self._value
        self._until = parse_time(status.get("expirationTimestamp"))
        self._value = value or before
        return bool(value) and value != before


def build_plugin_token(path: Path, entry: Mapping[str, Any], cluster: Mapping[str, Any]) -> Token:
    """`path`: of the kubeconfig, `entry`: its user's `exec`. Runs the plugin once. Raises AccessError."""
    version = entry.get("apiVersion")
    if version not in VERSIONS:
        raise AccessError(f"{path}: the plugin's apiVersion must be one of {', '.join(VERSIONS)}")
    command = find_command(path, str(entry.get("command") or ""), entry.get("installHint"))
    arguments = [str(argument) for argument in entry.get("args") or []]
    environment = build_environment(entry, cluster)
    token = PluginToken(lambda: run_plugin(path, [command, *arguments], environment))
    if not token.current():
        raise AccessError(f"{path}: the plugin {entry['command']} gave no token")
    return token


def find_command(path: Path, command: str, hint: object) -> str:
    """With a slash in it, it counts from the kubeconfig."""
    if "/" in command:
        return str(path.parent / command)
    found = shutil.which(command) if command else None
    if found is None:
        cure = f": {hint}" if isinstance(hint, str) and hint.strip() else ""
        raise AccessError(f"{path}: the plugin {command!r} is not on the path{cure}")
    return found


def build_environment(entry: Mapping[str, Any], cluster: Mapping[str, Any]) -> dict[str, str]:
    spec: dict[str, Any] = {"interactive": sys.stdin is not None and sys.stdin.isatty()}
    if entry.get("provideClusterInfo"):
        known = ("server", "certificate-authority-data", "insecure-skip-tls-verify")
        spec["cluster"] = {key: cluster[key] for key in known if key in cluster}
    info = {"apiVersion": entry["apiVersion"], "kind": "ExecCredential", "spec": spec}
    given = {
        str(variable["name"]): str(variable.get("value", ""))
        for variable in entry.get("env") or []
        if isinstance(variable, dict) and "name" in variable
    }
    return {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(info)}


def run_plugin(
    path: Path, command: Sequence[str], environment: Mapping[str, str]
) -> dict[str, Any]:
    """The `status` of the credential that it prints."""
    name = Path(command[0]).name
    try:
        # Its standard error is the user's: there it asks for a second factor, or says why it fails.
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, timeout=ANSWER_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise AccessError(
            f"{path}: the plugin {name} did not answer in {ANSWER_WITHIN_S:.0f} s"
        ) from None
    except OSError as e:
        raise AccessError(f"{path}: the plugin {name} cannot be run: {e.strerror or e}") from e
    if done.returncode != 0:
        raise AccessError(f"{path}: the plugin {name} failed with code {done.returncode}")
    return parse_credential(path, name, done.stdout)


def parse_credential(path: Path, name: str, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
        status = value["status"]
        if value["kind"] != "ExecCredential" or not isinstance(status, dict):
            raise TypeError
    except (ValueError, TypeError, LookupError):
        # Not chained: the error's text holds what the plugin printed.
        raise AccessError(f"{path}: the plugin {name} printed no ExecCredential") from None
    if not status.get("token") and status.get("clientCertificateData"):
        raise AccessError(
            f"{path}: the plugin {name} gives a client certificate, which farcall does not take; "
            "use a context with a token (kubectl create token)"
        )
    return status


def parse_time(text: object) -> float | None:
    """Unix seconds; None where it says none, and then the token is good until it is refused."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

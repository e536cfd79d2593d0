"""Where the API server is and how to prove who asks: a kubeconfig, or the service account of the pod we run in.

Tokens are read again as they rotate. Nothing here talks to the network, and no message ever holds a key or a token.
"""

import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farcall.yamltext import YamlTextError, parse_yaml

ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOME_CONFIG = Path("~/.kube/config")
# The kubelet renews a bound token when a fifth of its life (an hour) is left, so a minute is early enough.
READ_TOKEN_EVERY_S = 60.0


class AccessError(Exception):
    """No way to the cluster; the message says which file and what to do."""


class Token:
    """A bearer token; one in a file is read again once a minute, and when the server refused it."""

    def __init__(
        self,
        *,
        value: str = "",
        path: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._value = value
        self._path = path
        self._clock = clock
        self._read_at = -READ_TOKEN_EVERY_S

    def current(self) -> str:
        """Empty when there is none. A file that cannot be read just now leaves the token known before."""
        if self._path is not None and self._clock() - self._read_at >= READ_TOKEN_EVERY_S:
            self.refresh()
        return self._value

    def refresh(self) -> bool:
        """Whether another token was there."""
        if self._path is None:
            return False
        self._read_at = self._clock()
        try:
            value = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return False
        changed = bool(value) and value != self._value
        self._value = value or self._value
        return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """`server` without a slash at its end; `tls` is None for plain HTTP, which only a loopback proxy should speak."""

    server: str
    tls: ssl.SSLContext | None
    token: Token
    namespace: str
    source: str  # for logs: which file this came from
    proxy: str | None = None


def load_access(
    kubeconfig: Path | None = None,
    *,
    context: str | None = None,
    environ: Mapping[str, str] = os.environ,
    account_folder: Path = ACCOUNT_FOLDER,
) -> Access:
    """`kubeconfig`, else $KUBECONFIG, else ~/.kube/config, else the pod's service account. Raises AccessError."""
    for path in _candidates(kubeconfig, environ):
        return read_kubeconfig(path, context=context)
    if "KUBERNETES_SERVICE_HOST" in environ:
        return read_service_account(account_folder, environ)
    raise AccessError(
        "no cluster is known: give --kubeconfig FILE, set KUBECONFIG, or run this in a pod"
    )


def _candidates(kubeconfig: Path | None, environ: Mapping[str, str]) -> list[Path]:
    if kubeconfig is not None:
        return [kubeconfig]
    named = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if named:
        # kubectl merges them; whoever needs that can name one file. A missing one is no error there either.
        return [path for path in named if path.exists()][:1] or named[:1]
    home = Path(environ.get("HOME", "/nonexistent")) / HOME_CONFIG.relative_to("~")
    return [home] if home.exists() else []


def read_service_account(folder: Path, environ: Mapping[str, str]) -> Access:
    host = environ["KUBERNETES_SERVICE_HOST"]
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    token = Token(path=folder / "token")
    if not token.current():
        raise AccessError(
            f"{folder}/token cannot be read: the pod has no service account token "
            "(automountServiceAccountToken)"
        )
    try:
        tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    except (OSError, ssl.SSLError) as e:
        raise AccessError(f"{folder}/ca.crt: {e}") from e
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        tls=tls,
        token=token,
        namespace=_read_namespace(folder / "namespace"),
        source=str(folder),
    )


def _read_namespace(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip() or "default"
    except (OSError, UnicodeDecodeError):
        return "default"


def read_kubeconfig(path: Path, *, context: str | None = None) -> Access:
    """Raises AccessError when the file, or the context in it, cannot be used."""
    document = _read_document(path)
    name = context or document.get("current-context")
    if not name:
        raise AccessError(f"{path}: has no current-context; kubectl config use-context sets one")
    chosen = _find(path, document, "contexts", "context", str(name))
    cluster = _find(path, document, "clusters", "cluster", str(chosen.get("cluster", "")))
    user = _find(path, document, "users", "user", str(chosen["user"])) if "user" in chosen else {}
    refuse_unsupported(path, cluster, user)
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise AccessError(f"{path}: the cluster's server is no http or https address")
    return Access(
        server=server,
        tls=_build_tls(path, cluster, user) if server.startswith("https://") else None,
        token=_build_token(path, user, cluster),
        namespace=str(chosen.get("namespace") or "default"),
        source=str(path),
        proxy=str(cluster["proxy-url"]) if cluster.get("proxy-url") else None,
    )


def refuse_unsupported(path: Path, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> None:
    if user.get("auth-provider"):
        raise AccessError(
            f"{path}: the user's credentials come from a plugin (auth-provider) of a kind that left Kubernetes in 1.26; "
            "use a context with `exec`, a client certificate or a token (kubectl create token)"
        )
    if user.get("username"):
        raise AccessError(f"{path}: basic authentication left Kubernetes in 1.19; use a token")
    if cluster.get("tls-server-name"):
        raise AccessError(
            f"{path}: tls-server-name is not supported; use the certificate's own name"
        )


def _read_document(path: Path) -> dict[str, Any]:
    try:
        documents = parse_yaml(path.read_bytes())
    except OSError as e:
        raise AccessError(f"{path}: {e.strerror}") from e
    except YamlTextError as e:
        raise AccessError(f"{path}: {e}") from e
    if not documents or not isinstance(documents[0], dict):
        raise AccessError(f"{path}: is not a kubeconfig")
    return documents[0]


def _find(
    path: Path, document: Mapping[str, Any], plural: str, key: str, name: str
) -> dict[str, Any]:
    for entry in document.get(plural) or []:
        if isinstance(entry, dict) and entry.get("name") == name:
            value = entry.get(key) or {}
            if isinstance(value, dict):
                return value
    raise AccessError(f"{path}: has no {key} {name!r}")


def _build_token(path: Path, user: Mapping[str, Any], cluster: Mapping[str, Any]) -> Token:
    if isinstance(user.get("exec"), dict):
        # Here: it needs Token, and in a pod nobody needs it.
        from farcall_operator.cluster.plugin import build_plugin_token

        return build_plugin_token(path, user["exec"], cluster)
    if user.get("tokenFile"):
        return Token(path=path.parent / str(user["tokenFile"]))
    return Token(value=str(user.get("token") or ""))


def _build_tls(path: Path, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    try:
        ca = _read_pem(path, cluster, "certificate-authority")
        tls = ssl.create_default_context(cadata=ca.decode("ascii") if ca else None)
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        certificate = _read_pem(path, user, "client-certificate")
        key = _read_pem(path, user, "client-key")
        if certificate and key:
            _load_pair(tls, certificate, key)
    except (OSError, ssl.SSLError, UnicodeDecodeError, binascii.Error) as e:
        # Never the bytes themselves: `e` names a file or the kind of fault.
        raise AccessError(
            f"{path}: certificate or key cannot be used: {type(e).__name__}: {e}"
        ) from e
    return tls


def _read_pem(path: Path, entry: Mapping[str, Any], key: str) -> bytes:
    """Inline wins over the file, as in kubectl; a relative path counts from the kubeconfig."""
    inline = entry.get(f"{key}-data")
    if inline:
        return base64.b64decode(str(inline), validate=False)
    named = entry.get(key)
    return (path.parent / str(named)).read_bytes() if named else b""


def _load_pair(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL reads the pair only from a file: one of ours alone, gone at once."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as pair:  # mode 0600
        pair.write(certificate + b"\n" + key)
        pair.flush()
        tls.load_cert_chain(pair.name)

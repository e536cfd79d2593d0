"""Who may talk to the control plane under test, and how tests talk to it: keys, tokens, kubeconfigs, a small client."""

import base64
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from farcall_operator.cluster.client import render_body

Object = dict[str, Any]
ADMIN_TOKEN = "test-administrator"
MANAGER_TOKEN = "test-controllers"
SERVING_NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc"
CORE_PATHS = {"v1": "/api/v1"}
# Irregular plurals and kinds without a namespace, of those that the tests touch.
PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "Endpoints": "endpoints",
    "StorageClass": "storageclasses",
}
CLUSTER_KINDS = {
    "TracingConfig",
    "Namespace",
    "Node",
    "PersistentVolume",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "StorageClass",
    "ServiceCIDR",
    "PriorityClass",
}


@dataclass(frozen=True)
class Pki:
    """A CA, the API server's certificate, and the key that signs service accounts' tokens."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def serving_cert(self) -> Path:
        return self.folder / "serving.crt"

    @property
    def serving_key(self) -> Path:
        return self.folder / "serving.key"

    @property
    def account_key(self) -> Path:
        return self.folder / "account.key"

    def make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        ca_key = str(self.folder / "ca.key")
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
        self._openssl("req", "-x509", *curve, "-keyout", ca_key, "-out", str(self.ca), "-subj", "/CN=test-ca", "-days", "2", *usage)  # fmt: skip
        request = str(self.folder / "serving.csr")
        self._openssl("req", *curve, "-keyout", str(self.serving_key), "-out", request, "-subj", "/CN=kube-apiserver", "-addext", SERVING_NAMES)  # fmt: skip
        self._openssl("x509", "-req", "-in", request, "-CA", str(self.ca), "-CAkey", ca_key, "-CAcreateserial", "-out", str(self.serving_cert), "-days", "2", "-copy_extensions", "copyall")  # fmt: skip
        # In the older form (SEC 1): the API server reads no PKCS #8 here.
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(self.account_key))  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def write_kubeconfig(
    path: Path, url: str, ca: Path, token: str, namespace: str = "default"
) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority-data": base64.b64encode(ca.read_bytes()).decode()}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(config))


class RefusedError(Exception):
    """The API server's Status, as it came."""

    def __init__(self, status: Object) -> None:
        self.status = status
        self.code = int(status.get("code", 0))
        super().__init__(str(status.get("message", status)))


class Api:
    """The API server's HTTP API as one user; objects are the JSON that it speaks."""

    def __init__(self, url: str, ca: Path, token: str) -> None:
        # The trust store of this one CA: making httpx' default one costs more than a request.
        self.http = httpx.Client(
            base_url=url,
            verify=ssl.create_default_context(cafile=str(ca)),
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, path: str, **parameters: str) -> Object:
        return self._read(self.http.get(path, params=parameters))

    def find(self, path: str) -> Object | None:
        try:
            return self.get(path)
        except RefusedError as e:
            if e.code == 404:
                return None
            raise

    def list(self, path: str, **parameters: str) -> list[Object]:
        found: list[Object] = self.get(path, **parameters)["items"]
        return found

    def create(self, manifest: Object) -> Object:
        return self._read(self.http.post(collection_path(manifest), json=manifest))

    def apply(
        self, manifest: Object, *, manager: str = "test", force: bool = True, **parameters: str
    ) -> Object:
        query = {"fieldManager": manager, "force": str(force).lower(), **parameters}
        return self._patch(object_path(manifest), manifest, "apply-patch+yaml", query)

    def merge(self, path: str, patch: Object) -> Object:
        return self._patch(path, patch, "merge-patch+json", {})

    def replace(self, manifest: Object, subresource: str = "") -> Object:
        path = object_path(manifest) + (f"/{subresource}" if subresource else "")
        return self._read(self.http.put(path, json=manifest))

    def delete(self, path: str, **parameters: str) -> None:
        answer = self.http.delete(path, params=parameters)
        if answer.status_code != 404:
            self._read(answer)

    def _patch(self, path: str, patch: Object, kind: str, parameters: Mapping[str, str]) -> Object:
        headers = {"Content-Type": f"application/{kind}"}
        body = render_body(patch)
        return self._read(self.http.patch(path, content=body, headers=headers, params=parameters))

    def _read(self, answer: httpx.Response) -> Object:
        body: Object = answer.json()
        if answer.status_code >= 400:
            raise RefusedError(body)
        return body


def collection_path(manifest: Object) -> str:
    metadata = manifest["metadata"]
    return build_path(
        manifest["apiVersion"], manifest["kind"], metadata.get("namespace", "default")
    )


def object_path(manifest: Object) -> str:
    return f"{collection_path(manifest)}/{manifest['metadata']['name']}"


def build_path(api_version: str, kind: str, namespace: str, name: str = "") -> str:
    base = CORE_PATHS.get(api_version, f"/apis/{api_version}")
    plural = PLURALS.get(kind, f"{kind.lower()}s")
    scope = "" if kind in CLUSTER_KINDS else f"/namespaces/{namespace}"
    return f"{base}{scope}/{plural}" + (f"/{name}" if name else "")

"""The health check of a TracingConfig as Argo CD runs it: real Lua 5.1."""

from lupa.lua51 import LuaRuntime

from farcall_operator.cluster.port import Manifest
from support_install import DEPLOY

CHECK = (DEPLOY / "argocd/health.lua").read_text(encoding="utf-8")


def judge(config: Manifest) -> tuple[str, str]:
    """As Argo CD does: the resource is the global `obj`, and the script returns a table. No library is at hand."""
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    lua.execute("io, os, package, debug, require, dofile, loadfile = nil")
    lua.globals().obj = lua.table_from(config, recursive=True)
    found = lua.execute(CHECK)
    return str(found.status), str(found.message)

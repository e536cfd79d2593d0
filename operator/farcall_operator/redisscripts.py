"""The two shell scripts of the Redis pod: how it starts, and how it is asked whether it is ready. Pure text.

Values of secrets stay in files: an ACL file with their digests is written inside the pod, at start.
"""

from farcall.cacheacl import EXPORTER, KEY_PATTERN, NO_DEFAULT_USER, USERS
from farcall.tlsfiles import CA
from farcall_operator.layout import CONFIG_DIR, REDIS_PORT, SECRETS_DIR


def render_start_script() -> str:
    """Writes the users with their passwords' digests, then becomes the server. The variables are for tests."""
    lines = [
        "#!/bin/sh",
        "# An empty or missing password would be a valid digest: it must not start then.",
        "set -eu",
        "umask 077",
        f"secrets=${{SECRETS_DIR:-{SECRETS_DIR}}}",
        "users=${ACL_FILE:-/run/redis/users.acl}",
        'digest() { tr -d "\\n" <"$secrets/$1" | sha256sum | cut -d " " -f 1; }',
        f'echo "{NO_DEFAULT_USER}" >"$users"',
    ]
    for user in USERS:
        rule = f"user {user.name} reset on #$(digest {user.password_file})"
        commands = " ".join(f"+{command}" for command in user.commands)
        lines += [
            f'[ -s "$secrets/{user.password_file}" ] || '
            f'{{ echo "$secrets/{user.password_file} is empty or missing" >&2; exit 2; }}',
            f'echo "{rule} ~{KEY_PATTERN} -@all {commands}" >>"$users"',
        ]
    server = "$(command -v redis-server || command -v valkey-server)"
    lines.append(f'exec "{server}" "${{REDIS_CONF:-{CONFIG_DIR}/redis.conf}}"')
    return "\n".join(lines) + "\n"


def render_ready_script(*, tls: bool) -> str:
    """A server that is loading its file, or cannot write to it, answers PING with an error, which the pod's events then tell.

    The password goes by environment, never by argument.
    """
    options = f' --tls --cacert "$secrets/{CA}"' if tls else ""
    return f"""\
#!/bin/sh
set -eu
secrets=${{SECRETS_DIR:-{SECRETS_DIR}}}
REDISCLI_AUTH=$(cat "$secrets/{EXPORTER.password_file}")
export REDISCLI_AUTH
client=$(command -v redis-cli || command -v valkey-cli)
port=${{REDIS_PORT:-{REDIS_PORT}}}
said=$("$client" -p "$port"{options} --user {EXPORTER.name} --no-auth-warning ping 2>&1) || true
[ "$said" = PONG ] || {{ echo "${{said:-no answer}}" >&2; exit 1; }}
"""

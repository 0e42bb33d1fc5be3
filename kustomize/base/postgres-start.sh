#!/usr/bin/env bash
# Starts Postgres, and first makes its role's password the one in the Secret.
#
# The image's entrypoint sets a password only when it initialises an empty volume. A Secret that was
# lost and made again would then never open the old database; with this, a restart heals it.
set -euo pipefail

set_password() {
  local role=$1 password=$2 output
  if [[ $role == *$'\n'* || $password == *$'\n'* ]]; then
    echo "postgres-start: the user name and the password must be one line each" >&2
    exit 1
  fi
  # In single-user mode there is no network, no authentication and no one else. The statement comes
  # on standard input (`printf` is part of the shell, so it is in no process's arguments), and is
  # kept out of the log even if it fails. A Postgres that was killed leaves a lock file with its
  # number, 1, which is this shell's now: PG_GRANDPARENT_PID tells Postgres that it is no rival.
  output=$(
    printf 'ALTER ROLE "%s" WITH LOGIN PASSWORD '\''%s'\'';\n' \
      "${role//\"/\"\"}" "${password//\'/\'\'}" |
      PG_GRANDPARENT_PID=$$ postgres --single -D "$PGDATA" \
        -c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic \
        -c standard_conforming_strings=on -c password_encryption=scram-sha-256 \
        -c logging_collector=off -c log_destination=stderr -c lc_messages=C \
        postgres 2>&1 >/dev/null
  ) || {
    printf '%s\n' "$output" >&2
    echo "postgres-start: the password could not be set, starting with the old one" >&2
    return 0
  }
  # Single-user mode reports a failed statement, and still exits 0.
  if [[ $output == *ERROR:* ]]; then
    printf '%s\n' "$output" >&2
    echo "postgres-start: the password of role $role could not be set" >&2
    exit 1
  fi
}

if [[ -s $PGDATA/PG_VERSION ]]; then
  set_password "$POSTGRES_USER" "$(<"$POSTGRES_PASSWORD_FILE")"
fi
exec docker-entrypoint.sh "$@"

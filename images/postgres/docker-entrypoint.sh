#!/usr/bin/env bash
# Initialises PGDATA on the first start, then becomes the server. A drop-in for the part of the
# official image's entrypoint that a Kubernetes manifest relies on.
set -euo pipefail

# Options alone mean: to postgres.
if [ "${1:0:1}" = "-" ]; then set -- postgres "$@"; fi
if [ "$1" != postgres ]; then exec "$@"; fi

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
password=${POSTGRES_PASSWORD:-}
if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
  if [ -n "$password" ]; then
    echo "set only one of POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE" >&2
    exit 1
  fi
  password=$(<"$POSTGRES_PASSWORD_FILE")
fi

initialise() {
  if [ -z "$password" ]; then
    echo "PGDATA is empty: POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE is needed to initialise it" >&2
    exit 1
  fi
  mkdir -p "$PGDATA"
  chmod 0700 "$PGDATA"
  # Built beside its final place and moved there at the end: an initialisation that was cut off
  # leaves no PG_VERSION, and the next start does it again.
  local fresh=$PGDATA/.initialising
  rm -rf "$fresh"
  local arguments=()
  if [ -n "${POSTGRES_INITDB_ARGS:-}" ]; then read -ra arguments <<<"$POSTGRES_INITDB_ARGS"; fi
  initdb --pgdata="$fresh" --username="$user" --pwfile=<(printf '%s\n' "$password") \
    --auth-local=trust --auth-host=scram-sha-256 "${arguments[@]}"
  printf 'host all all all scram-sha-256\n' >>"$fresh/pg_hba.conf"

  pg_ctl --pgdata="$fresh" --wait start -o "-c listen_addresses=''" >/dev/null
  if [ "$database" != postgres ]; then
    psql --username="$user" --dbname=postgres --no-psqlrc --set=ON_ERROR_STOP=1 \
      --set=database="$database" --quiet <<<'CREATE DATABASE :"database";'
  fi
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    case "$script" in
      *.sh) bash "$script" ;;
      *.sql) psql --username="$user" --dbname="$database" --no-psqlrc --set=ON_ERROR_STOP=1 \
        --file="$script" ;;
    esac
  done
  pg_ctl --pgdata="$fresh" --wait --mode=fast stop >/dev/null

  # PG_VERSION goes last: it is what says that the folder holds a database.
  local entry
  shopt -s dotglob
  for entry in "$fresh"/*; do
    if [ "${entry##*/}" != PG_VERSION ]; then
      rm -rf "${PGDATA:?}/${entry##*/}"
      mv "$entry" "$PGDATA/"
    fi
  done
  mv "$fresh/PG_VERSION" "$PGDATA/"
  rmdir "$fresh"
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then initialise; fi
exec "$@"

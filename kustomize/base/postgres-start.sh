#!/usr/bin/env bash
# Starts Postgres. Before that it initialises an empty volume, makes the roles what the Secret and this
# release say, and makes a certificate. A start that was cut off anywhere is finished by the next one.
#
# The image's entrypoint sets a password only when it initialises an empty volume. A Secret that was
# lost and made again would then never open the old database; with this, a restart heals it.
set -euo pipefail

here=$(dirname "$0")
run=${POSTGRES_RUN:-/var/run/postgresql}

say() { echo "postgres-start: $*" >&2; }

# initdb looks up the name of its user, which one that a namespace gave (OpenShift) may not have. The
# official image brings a library for that.
as_somebody() {
  local library
  if getent passwd "$(id -u)" >/dev/null; then
    "$@"
    return
  fi
  for library in /usr/lib/*/libnss_wrapper.so /usr/lib/libnss_wrapper.so; do
    if [[ -s $library ]]; then
      echo "postgres:x:$(id -u):$(id -g):PostgreSQL:$PGDATA:/bin/false" >/tmp/passwd
      echo "postgres:x:$(id -g):" >/tmp/group
      LD_PRELOAD=$library NSS_WRAPPER_PASSWD=/tmp/passwd NSS_WRAPPER_GROUP=/tmp/group "$@"
      return
    fi
  done
  "$@"
}

# A folder that holds something and is no database is kept, for a person to look at.
initialise() {
  local fresh=$PGDATA.initialising arguments=()
  rm -rf "$fresh"
  read -ra arguments <<<"${POSTGRES_INITDB_ARGS:-}"
  as_somebody initdb --pgdata="$fresh" --username=postgres --auth-local=trust \
    --auth-host=scram-sha-256 "${arguments[@]}"
  if [[ -e $PGDATA ]] && ! rmdir "$PGDATA" 2>/dev/null; then
    mv "$PGDATA" "$PGDATA.incomplete-$(date +%s)"
    say "what was in $PGDATA was no database, and is beside it now"
  fi
  sync
  mv --no-target-directory "$fresh" "$PGDATA"
}

# Runs statements in a database, with no network, no authentication and no one else; prints what they
# print. They come on standard input (`printf` is part of the shell, so a password is in no process's
# arguments), and are kept out of the log even if they fail. A Postgres that was killed leaves a lock
# file with its number, 1, which is this shell's now: PG_GRANDPARENT_PID tells Postgres that it is no
# rival. Single-user mode reports a failed statement, and still exits 0.
alone() {
  local errors status=0
  errors=$(mktemp)
  PG_GRANDPARENT_PID=$$ postgres --single -j -D "$PGDATA" \
    -c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic \
    -c standard_conforming_strings=on -c password_encryption=scram-sha-256 \
    -c log_error_verbosity=terse -c logging_collector=off -c log_destination=stderr -c lc_messages=C \
    "$1" 2>"$errors" || status=1
  if ((status)) || grep -q 'ERROR:' "$errors"; then
    cat "$errors" >&2
    # Not even started: the server says why, and better.
    ((status)) && return 2
    return 1
  fi
  rm -f "$errors"
}

prepare_roles() {
  local login=$DATABASE_USER password steps step name owner=""
  password=$(<"$POSTGRES_PASSWORD_FILE")
  if [[ $login == *$'\n'* || $password == *$'\n'* ]]; then
    say "the user name and the password must be one line each"
    exit 1
  fi
  steps=$(
    {
      printf "SET mlops.login = '%s';\n\n" "${login//\'/\'\'}"
      printf "SET mlops.password = '%s';\n\n" "${password//\'/\'\'}"
      cat "$here/postgres-roles.sql"
    } | alone postgres
  ) || {
    (($? == 2)) || { say "the password of role $login could not be set" && exit 1; }
    say "the roles are left as they are, for Postgres to say what is wrong"
    return 0
  }
  steps=$(sed -n 's/^\t 1: [a-z]* = "\(.*\)"\t(typeid.*/\1/p' <<<"$steps")
  while read -r step name; do
    case $step in
      owner) owner=$name ;;
      give) give "$name" "$owner" ;;
      make)
        printf 'CREATE DATABASE %s;\n' "$name" | alone postgres >/dev/null
        give "$name" "$owner"
        ;;
    esac
  done <<<"$steps"
}

# A database of before, or one that was just made.
give() {
  {
    printf "SET mlops.owner = '%s';\n\n" "${2//\'/\'\'}"
    cat "$here/postgres-owner.sql"
  } | alone "$1" >/dev/null
  say "database $1 and what is in it belong to role $2 now"
}

# One that nobody else ever had, for as long as this start lasts. Clients know by the password, and not
# by an authority, that it is this server's (channel binding).
make_certificate() {
  if ! command -v openssl >/dev/null; then
    say "the image has no openssl, which makes the certificate; use one that is built on Debian"
    exit 1
  fi
  (
    umask 077
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
      -subj /CN=postgres -addext subjectAltName=DNS:postgres \
      -keyout "$run/server.key" -out "$run/server.crt" 2>/dev/null
  )
}

# A change to another major version is noted beside the database: from, to, and whether the other one
# begins empty or is kept. While the note is there the old database is the truth: a start of its own
# version puts it in its place again, and calls the change off. Each version's database is one folder,
# renamed as a whole: a start that was cut off is finished by the next one. What was ever the truth is
# never deleted.
hand_over() {
  local from='' to='' other='' there=''
  read -r from to other _backup <"$PGDATA.hand-over" || true
  rm -rf "$PGDATA.dropping"
  if [[ -s $PGDATA/PG_VERSION ]]; then there=$(<"$PGDATA/PG_VERSION"); fi
  if [[ $major == "$to" && $there == "$from" ]]; then
    put_aside "$from"
    there=''
  elif [[ $major == "$from" && $there == "$to" && -s $PGDATA.$from/PG_VERSION ]]; then
    # It began empty, and nobody has written to it but for a change that did not succeed.
    if [[ $other == empty ]]; then
      mv "$PGDATA" "$PGDATA.dropping"
      rm -rf "$PGDATA.dropping"
    else
      put_aside "$to"
    fi
    there=''
  fi
  if [[ -z $there && -s $PGDATA.$major/PG_VERSION && ($major == "$from" || $other == kept) ]]; then
    if [[ -e $PGDATA ]]; then mv "$PGDATA" "$PGDATA.incomplete-$(date +%s)"; fi
    mv --no-target-directory "$PGDATA.$major" "$PGDATA"
    there=$major
    sync
    say "the database of Postgres $major is in its place again"
  fi
  if [[ $major == "$from" && $there == "$from" ]]; then rm "$PGDATA.hand-over"; fi
}

put_aside() {
  if [[ -e $PGDATA.$1 ]]; then mv "$PGDATA.$1" "$PGDATA.$1-$(date +%s)"; fi
  mv "$PGDATA" "$PGDATA.$1"
  sync
  say "the database of Postgres $1 is kept as $PGDATA.$1"
}

# A volume is opened by its own major version only; the line is what a crash loop is explained with.
version=$(postgres --version)
[[ $version =~ \)\ ([0-9]+) ]]
major=${BASH_REMATCH[1]}
if [[ -s $PGDATA.hand-over ]]; then hand_over; fi
if [[ ! -s $PGDATA/PG_VERSION ]]; then
  initialise
elif [[ $(<"$PGDATA/PG_VERSION") != "$major" ]]; then
  say "the volume is of Postgres $(<"$PGDATA/PG_VERSION") and this image is Postgres" \
    "$major; set mlflow_postgres_image to an image of Postgres $(<"$PGDATA/PG_VERSION")"
  exit 1
fi
prepare_roles
make_certificate
# First: what an overlay's arguments say otherwise holds.
exec "$1" -c hba_file="$here/pg_hba.conf" -c ssl=on \
  -c ssl_cert_file="$run/server.crt" -c ssl_key_file="$run/server.key" "${@:2}"

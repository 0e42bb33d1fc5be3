#!/usr/bin/env bash
# Takes, tests, lists and restores backups of MLflow's databases, with Postgres' own programs.
#
#   backup.sh backup    take one, then delete what is not to be kept any longer
#   backup.sh list      say which there are
#   backup.sh check     reckon the checksums of $BACKUP_NAME
#   backup.sh since     count what the live database has, to compare it with $BACKUP_NAME
#   backup.sh test      restore $BACKUP_NAME into a scratch database, compare, drop it
#   backup.sh prepare   restore $BACKUP_NAME beside the live database, and compare
#   backup.sh swap      put what was prepared in the live database's place, and keep that one
#   backup.sh forget    drop the databases that earlier restores replaced
#   backup.sh send      write $BACKUP_NAME to standard output, as base64 of a tar archive
#   backup.sh receive   read $BACKUP_SIZE characters of such from standard input, and keep it
#   backup.sh hold      do nothing for $BACKUP_HOLD seconds, so that files can be copied
#
# A backup is a folder of $BACKUP_DIR, named after the moment: manifest.json, manifest.sha256 and a
# dump for each database; tested.json when it was tested; `keep` when it is never to be deleted. It
# gets its name when all of it is on the disk: one that was cut off is never listed.
#
# Where the database is, libpq's variables say (PGHOST, PGUSER, PGPASSWORD, PGSSLMODE …): no address
# and no password is in an argument. Lines that start with @ are for programs, the rest for people.
set -euo pipefail
# A failure ends the script also inside $(…).
shopt -s nullglob inherit_errexit
# What is being written; it goes when this process does.
partial=''

dir=${BACKUP_DIR:-/backups}
image_file=${BACKUP_IMAGE_FILE:-/work/image.json}
export PGAPPNAME=mlops-mlflow-backup PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-5}
maintenance=${BACKUP_MAINTENANCE_DATABASE:-postgres}
# A connection that carries nothing for a while is dropped by many a NAT and load balancer, and a dump
# may count for longer than that. libpq takes these settings from a service's entry only.
service_file=${BASH_SOURCE[0]%/*}/pg_service.conf
if [[ -z ${PGSERVICE:-} && -r $service_file ]]; then
  export PGSERVICEFILE=$service_file PGSERVICE=mlflow-backup
fi
scratch_suffix=_restore_test
prepared_suffix=_restoring
replaced_suffix=_before_

say() { printf 'backup: %s\n' "$*"; }
fail() {
  printf 'backup: %s\n' "$*" >&2
  exit 1
}

# --- Which databases ------------------------------------------------------------------------------

# The name in a URI such as postgresql+psycopg2:///mlflow. The URI itself is never repeated: another
# one could hold a password.
name_in() {
  [[ $2 =~ ^postgres(ql)?(\+[a-z0-9]+)?:///([A-Za-z0-9_][A-Za-z0-9_.-]*)(\?.*)?$ ]] ||
    fail "$1 must name a database only, as in postgresql+psycopg2:///mlflow; PGHOST says where it is"
  # Names are made from it, of which Postgres takes 63 characters.
  ((${#BASH_REMATCH[3]} <= 39)) || fail "$1 names a database with more than 39 characters"
  printf '%s\n' "${BASH_REMATCH[3]}"
}

# tracking, and auth if its tables are in a database of their own: role and name, one a line.
databases() {
  local tracking auth uri
  tracking=$(name_in MLFLOW_BACKEND_STORE_URI "${MLFLOW_BACKEND_STORE_URI:-}")
  printf 'tracking %s\n' "$tracking"
  if [[ -n ${MLFLOW_AUTH_CONFIG_PATH:-} ]]; then
    [[ -r $MLFLOW_AUTH_CONFIG_PATH ]] ||
      fail "$MLFLOW_AUTH_CONFIG_PATH (MLFLOW_AUTH_CONFIG_PATH) cannot be read here"
    uri=$(sed -n 's/^[[:space:]]*database_uri[[:space:]]*[=:][[:space:]]*//p' \
      "$MLFLOW_AUTH_CONFIG_PATH" | head -n 1)
    auth=$(name_in "database_uri of $MLFLOW_AUTH_CONFIG_PATH" "${uri//%%/%}")
    if [[ $auth != "$tracking" ]]; then printf 'auth %s\n' "$auth"; fi
  fi
}

# SQL from standard input, in the database named first; prints values only.
sql() {
  local database=$1
  shift
  PGDATABASE=$database psql --no-psqlrc --quiet --tuples-only --no-align \
    --set=ON_ERROR_STOP=1 "$@"
}

# What is compared after a restore: how many rows each table has, and each schema's revision. It runs
# in the session that it is given to, and so in that session's snapshot.
facts=$(
  cat <<'SQL'
SELECT coalesce(string_agg(format('SELECT %L AS name, count(*) AS rows FROM %I.%I',
      CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname,
      n.nspname, c.relname), ' UNION ALL '),
    'SELECT NULL AS name, 0 AS rows WHERE false') AS counting
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \gset
SELECT coalesce(string_agg(format(
      'SELECT %L AS name, string_agg(version_num, '','' ORDER BY version_num) AS revision FROM %I.%I',
      CASE c.relname WHEN 'alembic_version' THEN 'tracking' ELSE 'auth' END,
      n.nspname, c.relname), ' UNION ALL '),
    'SELECT NULL AS name, NULL AS revision WHERE false') AS revising
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relname IN ('alembic_version', 'alembic_version_auth') AND c.relkind = 'r' \gset
SELECT
    (SELECT coalesce(json_object_agg(name, rows ORDER BY name), '{}') FROM (:counting) AS t) AS rows,
    (SELECT coalesce(json_object_agg(name, revision ORDER BY name), '{}') FROM (:revising) AS t)
      AS revisions \gset
SQL
)
# A role's limits for everyday queries do not decide over a backup. Not every server has all of them.
unlimited=$(
  cat <<'SQL'
SELECT count(set_config(name, '0', false)) AS lifted FROM pg_settings
  WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
    'idle_session_timeout', 'transaction_timeout') \gset
SQL
)

# --- The folder -----------------------------------------------------------------------------------

is_name() { [[ $1 =~ ^[0-9]{8}T[0-9]{6}Z$ ]]; }

# Names of the backups that are whole, the newest first.
names() {
  local folder
  for folder in "$dir"/*/; do
    folder=${folder%/}
    if is_name "${folder##*/}" && [[ -e $folder/manifest.json ]]; then
      printf '%s\n' "${folder##*/}"
    fi
  done | sort --reverse
}

# The folder of the backup that is meant; `latest` is the newest that has not failed its test.
chosen() {
  local name
  if [[ ${BACKUP_NAME:-} == latest ]]; then
    for name in $(names); do
      if ! grep -q '"ok" *: *false' "$dir/$name/tested.json" 2>/dev/null; then
        printf '%s\n' "$dir/$name"
        return
      fi
    done
    fail "there is no backup in $dir"
  fi
  is_name "${BACKUP_NAME:-}" || fail "BACKUP_NAME must be the name of a backup, such as 20261124T190501Z"
  [[ -e $dir/$BACKUP_NAME/manifest.json ]] || fail "there is no backup $BACKUP_NAME"
  printf '%s\n' "$dir/$BACKUP_NAME"
}

# One at a time works on the folder; what a killed one left is removed.
lock_folder() {
  [[ -d $dir && -w $dir ]] || fail "the folder $dir is not there, or cannot be written to"
  exec 9>"$dir/.lock"
  flock --wait "${BACKUP_LOCK_WAIT:-600}" 9 || fail "another backup is being taken or tested"
  rm -rf "$dir"/.taking-* "$dir"/.deleting-*
}

# Written whole, or not at all.
write_file() {
  local path=$1
  cat >"$path.new"
  sync "$path.new"
  mv "$path.new" "$path"
  sync "${path%/*}"
}

one_line() { tr -d '\n\r' <"$1"; }

list() {
  local name
  # Who decides about a backup has to know whether it was named, or is just the newest.
  if [[ ${BACKUP_NAME:-} == latest ]]; then printf '@asked latest\n'; fi
  printf '@volume %s\n' "$(df -Pk "$dir" | awk 'NR == 2 { printf "%.0f %.0f", $2 * 1024, $4 * 1024 }')"
  # The log of a Job is what is read, and has a bound. The one that was asked for is always among them.
  for name in $(names | awk -v chosen="${BACKUP_NAME:-}" 'NR <= 60 || $0 == chosen'); do
    printf '@backup %s %s\n' "$name" "$(one_line "$dir/$name/manifest.json")"
    if [[ -e $dir/$name/tested.json ]]; then
      printf '@tested %s %s\n' "$name" "$(one_line "$dir/$name/tested.json")"
    fi
    if [[ -e $dir/$name/keep ]]; then printf '@marked %s\n' "$name"; fi
  done
}

# --- Versions -------------------------------------------------------------------------------------

# 17 of "pg_dump (PostgreSQL) 17.6 (Debian 17.6-0+deb13u1)".
client_version() {
  local said
  said=$(pg_dump --version)
  [[ $said =~ \)\ ([0-9]+) ]] || fail "pg_dump does not say its version: $said"
  printf '%s\n' "${BASH_REMATCH[1]}"
}

server_version() {
  sql "$maintenance" <<<"SELECT current_setting('server_version_num')::int / 10000;"
}

# Postgres' programs work with servers of their own version and older ones.
check_versions() {
  local client server
  client=$(client_version)
  server=$(server_version)
  printf '@versions {"client": %s, "server": %s}\n' "$client" "$server"
  ((client >= server)) ||
    fail "the programs here are Postgres $client and the server is Postgres $server: a backup needs" \
      "an image of Postgres $server or newer (mlflow_postgres_image)"
}

# Whether a restore, and so its test, may make the database that it needs.
privileges() {
  sql "$maintenance" <<'SQL'
SELECT '@role ' || json_build_object('name', rolname, 'createdb', rolcreatedb OR rolsuper)
  FROM pg_catalog.pg_roles WHERE rolname = current_user;
SQL
}

# The image's own schema, and the databases that a restore would meet.
surroundings() {
  local role live
  if [[ -e $image_file ]]; then printf '@image %s\n' "$(one_line "$image_file")"; fi
  while read -r role live; do
    printf '@live %s %s\n' "$role" "$live"
    sql "$maintenance" --set=live="$live" <<'SQL'
SELECT '@database ' || json_build_object('name', datname, 'size', pg_database_size(datname),
    'comment', coalesce(shobj_description(oid, 'pg_database'), ''))
  FROM pg_catalog.pg_database
  WHERE datname = :'live' OR datname = :'live' || '_restoring'
    OR starts_with(datname, :'live' || '_before_')
  ORDER BY datname;
SQL
  done <<<"$1"
  privileges
}

# --- Taking one -----------------------------------------------------------------------------------

# Dumps one database and prints what the manifest says of it. All of it sees the same snapshot: the
# session that counts exports its own to pg_dump, and ends after it.
dump() {
  local role=$1 name=$2 file=$3/$1.dump
  DUMP=$file sql "$name" --set=role="$role" <<SQL
$unlimited
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot() AS snapshot \\gset
\\setenv SNAPSHOT :snapshot
\\! pg_dump --format=custom --lock-wait-timeout=60s --snapshot="\$SNAPSHOT" --file="\$DUMP" && sync "\$DUMP" && touch "\$DUMP.whole" || true
$facts
\\set bytes \`stat -c %s "\$DUMP"\`
\\set sha256 \`sha256sum "\$DUMP" | cut -d' ' -f1\`
SELECT json_build_object('role', :'role', 'name', current_database(), 'file', :'role' || '.dump',
  'bytes', :'bytes'::bigint, 'sha256', :'sha256', 'size', pg_database_size(current_database()),
  'revisions', :'revisions'::json, 'rows', :'rows'::json);
COMMIT;
SQL
  [[ -e $file.whole ]] || fail "database $name could not be dumped: see the lines above"
  rm "$file.whole"
}

# A dump is compressed and has no indexes; half the database's size is more than it takes.
check_room() {
  local needed=16777216 free role name
  while read -r role name; do
    needed=$((needed + $(sql "$name" <<<'SELECT pg_database_size(current_database()) / 2;')))
  done <<<"$1"
  free=$(df -Pk "$dir" | awk 'NR == 2 { printf "%.0f", $4 * 1024 }')
  if ((free < needed)); then
    fail "the volume of the backups has $((free / 1048576)) MiB left and $((needed / 1048576)) MiB" \
      "may be needed; enlarge it, or keep fewer (BACKUP_KEEP, BACKUP_KEEP_DAYS)"
  fi
}

take() {
  local all name found='' role database
  all=$(databases)
  lock_folder
  check_versions
  check_room "$all"
  privileges
  name=$(date -u +%Y%m%dT%H%M%SZ)
  [[ ! -e $dir/$name ]] || fail "there is a backup $name already"
  partial=$dir/.taking-$name
  mkdir -m 0700 "$partial"
  trap 'rm -rf "$partial"' EXIT
  say "taking $name"
  while read -r role database; do
    found+="${found:+,}$(dump "$role" "$database" "$partial")"
  done <<<"$all"
  # psql writes the JSON, so that whatever a name holds is quoted.
  sql "$maintenance" --set=databases="[$found]" --set=name="$name" \
    --set=image="$(one_line "$image_file")" --set=release="${BACKUP_RELEASE:-}" \
    --set=store="$(artifact_store)" --set=reason="${BACKUP_REASON:-}" >"$partial/manifest.json" <<'SQL'
SELECT json_build_object('format', 1, 'name', :'name',
  'time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
  'mlflow', :'image'::json ->> 'mlflow', 'release', :'release', 'artifact_store', :'store',
  'reason', :'reason', 'postgres', current_setting('server_version'),
  'databases', :'databases'::json);
SQL
  (cd "$partial" && sha256sum manifest.json >manifest.sha256)
  if [[ ${BACKUP_MARK:-false} == true ]]; then : >"$partial/keep"; fi
  sync "$partial"/* "$partial"
  mv "$partial" "$dir/$name"
  sync "$dir"
  trap - EXIT
  say "took $name, $(du -sk "$dir/$name" | cut -f1) KiB"
  printf '@taken %s\n' "$name"
  retain
  list
}

# A path means something only together with whose it is.
artifact_store() {
  case ${MLFLOW_ARTIFACTS_DESTINATION:-} in
    *://*) printf '%s\n' "$MLFLOW_ARTIFACTS_DESTINATION" ;;
    *) printf '%s:%s\n' "${BACKUP_RELEASE:-}" "${MLFLOW_ARTIFACTS_DESTINATION:-}" ;;
  esac
}

# A restore notes that it needs a backup. One that never ended does not keep it for good.
being_restored() { [[ -n $(find "$dir/$1/restoring" -mmin -1440 2>/dev/null) ]]; }

# Deletes what is neither among the newest $BACKUP_KEEP nor younger than $BACKUP_KEEP_DAYS days; never
# one that is marked, and never the newest that is known to be good.
retain() {
  local keep=${BACKUP_KEEP:-14} days=${BACKUP_KEEP_DAYS:-14} count=0 good='' name oldest
  oldest=$(date -u -d "@$(($(date +%s) - days * 86400))" +%Y%m%dT%H%M%SZ)
  for name in $(names); do
    if grep -q '"ok" *: *true' "$dir/$name/tested.json" 2>/dev/null; then
      good=$name
      break
    fi
  done
  for name in $(names); do
    count=$((count + 1))
    if ((count <= keep)) || [[ ! $name < $oldest || $name == "$good" || -e $dir/$name/keep ]] ||
      being_restored "$name"; then
      continue
    fi
    mv "$dir/$name" "$dir/.deleting-$name"
    rm -rf "$dir/.deleting-$name"
    say "deleted $name, which is no longer to be kept"
  done
}

# --- To and from elsewhere ------------------------------------------------------------------------

send() {
  local folder
  folder=$(chosen)
  tar --create --file=- --directory="$dir" "${folder##*/}" | base64 | tr -d '\n'
}

# Standard input does not end here: how much is to come has to be known.
receive() {
  is_name "${BACKUP_NAME:-}" || fail "BACKUP_NAME must be the name of a backup"
  lock_folder
  partial=$dir/.taking-$BACKUP_NAME
  mkdir -m 0700 "$partial"
  trap 'rm -rf "$partial"' EXIT
  head -c "${BACKUP_SIZE:?}" | base64 -d | tar --extract --file=- --directory="$partial" --no-same-owner
  if [[ -e $dir/$BACKUP_NAME ]]; then
    cmp -s "$partial/$BACKUP_NAME/manifest.json" "$dir/$BACKUP_NAME/manifest.json" ||
      fail "there is another backup $BACKUP_NAME on the volume already"
    say "$BACKUP_NAME is on the volume already"
    return
  fi
  sync "$partial/$BACKUP_NAME"/* "$partial/$BACKUP_NAME"
  mv "$partial/$BACKUP_NAME" "$dir/$BACKUP_NAME"
  sync "$dir"
  say "received $BACKUP_NAME"
}

# --- Restoring one --------------------------------------------------------------------------------

# Reckons what the files are; whether that is what they should be is for whoever reads it.
check() {
  local folder file all
  folder=$(chosen)
  all=$(databases)
  check_versions
  list
  if (cd "$folder" && sha256sum --check --status manifest.sha256 2>/dev/null); then
    printf '@chosen %s whole\n' "${folder##*/}"
  else
    printf '@chosen %s damaged\n' "${folder##*/}"
  fi
  for file in "$folder"/*.dump; do
    printf '@file %s %s %s\n' "${file##*/}" "$(stat -c %s "$file")" \
      "$(sha256sum "$file" | cut -d' ' -f1)"
  done
  surroundings "$all"
}

# What the live databases hold now, as a manifest would say it.
since() {
  local folder all role live
  folder=$(chosen)
  all=$(databases)
  list
  privileges
  printf '@chosen %s unchecked\n' "${folder##*/}"
  while read -r role live; do
    sql "$live" --set=role="$role" <<SQL
$unlimited
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
$facts
SELECT '@now ' || json_build_object('role', :'role', 'rows', :'rows'::json, 'revisions', :'revisions'::json);
COMMIT;
SQL
  done <<<"$all"
}

# How our databases beside the live one are told from those of others.
ours='mlops.mlflow: '

# Drops a database that has one of our names, unless it is somebody else's. A new one of ours bears no
# mark for a moment, and is empty then.
drop_ours() {
  local name=$1 comment tables
  comment=$(comment_of "$name")
  if [[ $comment != "$ours"* ]] && exists "$name"; then
    tables=$(sql "$name" <<<"SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind IN ('r', 'p', 'v', 'm') AND nspname !~ '^pg_' AND nspname <> 'information_schema';")
    ((tables == 0)) ||
      fail "there is a database $name with $tables tables that no restore has made; a restore needs" \
        "that name: rename the database, or drop it"
  fi
  drop_database "$name"
}

exists() {
  [[ -n $(sql "$maintenance" --set=name="$1" <<<"SELECT 1 FROM pg_database WHERE datname = :'name';") ]]
}

drop_database() {
  sql "$maintenance" --set=name="$1" <<'SQL'
SET client_min_messages = warning;
DROP DATABASE IF EXISTS :"name" WITH (FORCE);
SQL
}

# t or f; a database that does not answer is neither.
may_create() {
  sql "$maintenance" <<<'SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user;'
}

may_not_create() {
  printf 'role %s may not create databases, which a restore and its test need; ' "${PGUSER:-}"
  printf 'have an administrator run: ALTER ROLE "%s" CREATEDB' "${PGUSER:-}"
}

# An empty database like another one.
create_like() {
  local allowed
  allowed=$(may_create)
  [[ $allowed == t ]] || fail "$(may_not_create)"
  sql "$maintenance" --set=like="$1" --set=name="$2" <<'SQL'
SELECT coalesce((SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L',
      :'name', pg_encoding_to_char(encoding), datcollate, datctype)
    FROM pg_database WHERE datname = :'like' AND datlocprovider = 'c'),
  format('CREATE DATABASE %I TEMPLATE template0', :'name')) \gexec
SQL
  comment_on "$2" "${ours}being restored"
}

# Restored, a database takes the room it had, and some for what is written ahead. How much there is, only
# a server that is ours lets itself be asked, where the role is a superuser; another one's keeper knows.
check_database_room() {
  local folder=$1 role=$2 needed free
  needed=$(sql "$maintenance" --set=role="$role" \
    --set=manifest="$(one_line "$folder/manifest.json")" <<'SQL'
SELECT (67108864 + (d ->> 'size')::numeric)::bigint
  FROM jsonb_array_elements(:'manifest'::jsonb -> 'databases') AS d WHERE d ->> 'role' = :'role';
SQL
  )
  free=$(sql "$maintenance" <<'SQL'
SELECT (rolsuper OR pg_has_role('pg_execute_server_program', 'USAGE'))
    AND current_setting('data_directory', true) ~ '^[A-Za-z0-9_./-]+$' AS may
  FROM pg_roles WHERE rolname = current_user \gset
\if :may
SELECT 'df -Pk ' || current_setting('data_directory') || ' | tail -n 1' AS df \gset
CREATE TEMPORARY TABLE room (line text);
COPY room FROM PROGRAM :'df';
SELECT (regexp_split_to_array(line, '\s+'))[4]::bigint * 1024 FROM room;
\endif
SQL
  )
  if [[ -n $needed && -n $free ]] && ((free < needed)); then
    fail "the database's volume has $((free / 1048576)) MiB left and ${folder##*/} takes" \
      "$((needed / 1048576)) MiB there; enlarge it, or drop what earlier restores replaced" \
      "(mlflow_restore_drop_replaced)"
  fi
}

# What of a dump is restored: who owns what, and who may what, is the release's own.
restored=(--no-owner --no-privileges --no-publications --no-subscriptions --exit-on-error)

# Restores one dump into an empty database. Newer programs than the server begin with settings that it
# does not have, and the first one ends the restore. As text, such a line can be left out; it costs the
# parallel jobs.
restore_dump() {
  local file=$1 target=$2 client server settings
  client=$(client_version)
  server=$(server_version)
  if ((client == server)); then
    pg_restore --dbname="$target" "${restored[@]}" --jobs="${BACKUP_JOBS:-2}" "$file"
    return
  fi
  settings=$(sql "$maintenance" <<<"SELECT string_agg(name, ' ') FROM pg_settings;")
  pg_restore --file=- "${restored[@]}" "$file" |
    awk -v settings="$settings" '
      BEGIN { count = split(settings, names, " "); for (i = 1; i <= count; i++) known[names[i]] = 1 }
      /^-- Name: / { body = 1 }
      !body && $1 == "SET" && !($2 in known) { next }
      { print }' |
    sql "$target" --output=/dev/null
}

# Restores one dump into an empty database, and compares that with the manifest.
fill() {
  local folder=$1 role=$2 target=$3 found
  restore_dump "$folder/$role.dump" "$target" ||
    fail "$role.dump of ${folder##*/} could not be restored: see the lines above"
  found=$(sql "$target" --set=role="$role" --set=manifest="$(one_line "$folder/manifest.json")" <<SQL
$unlimited
ANALYZE;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
$facts
WITH said AS (SELECT d FROM jsonb_array_elements(:'manifest'::jsonb -> 'databases') AS d
    WHERE d ->> 'role' = :'role'),
  was AS (SELECT f.* FROM said, jsonb_each_text(d -> 'rows') AS f
    UNION ALL SELECT 'revision of ' || f.key, f.value FROM said, jsonb_each_text(d -> 'revisions') AS f),
  now AS (SELECT * FROM jsonb_each_text(:'rows'::jsonb)
    UNION ALL SELECT 'revision of ' || key, value FROM jsonb_each_text(:'revisions'::jsonb))
SELECT coalesce(string_agg(format('%s: %s instead of %s', key, coalesce(now.value, 'none'),
    coalesce(was.value, 'none')), '; ' ORDER BY key), 'same')
  FROM now FULL JOIN was USING (key) WHERE now.value IS DISTINCT FROM was.value;
COMMIT;
SQL
  )
  [[ $found == same ]] ||
    fail "what was restored of $role is not what the manifest of ${folder##*/} says: $found"
}

tested() {
  sql "$maintenance" --set=ok="$1" --set=seconds="$2" --set=message="$3" <<'SQL'
SELECT json_build_object('time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
  'ok', :'ok'::boolean, 'seconds', :'seconds'::int, 'message', :'message');
SQL
}

try() {
  local folder=$1 all=$2 role live scratch result=0
  while read -r role live; do
    scratch=$live$scratch_suffix
    # Also what an earlier test left that was killed.
    drop_ours "$scratch"
    (
      set -e
      create_like "$live" "$scratch"
      fill "$folder" "$role" "$scratch"
    ) || result=1
    drop_ours "$scratch"
    if ((result)); then return 1; fi
  done <<<"$all"
}

# Whatever ends this process but SIGKILL, the scratch database goes; after that, at the next test.
drop_scratch() {
  local live
  while read -r _role live; do
    (drop_ours "$live$scratch_suffix") || true
  done <<<"$tested_databases"
}

run_test() {
  local folder started=$SECONDS allowed result role live _live
  lock_folder
  folder=$(chosen)
  tested_databases=$(databases)
  check_versions
  while read -r _role live; do
    (drop_ours "$live$scratch_suffix")
  done <<<"$tested_databases"
  # Which says nothing of the backup, and is no failure of its test: it was not made.
  allowed=$(may_create)
  if [[ $allowed != t ]]; then
    say "${folder##*/} was not tested: $(may_not_create)"
    privileges
    list
    return
  fi
  trap drop_scratch EXIT
  trap 'exit 143' TERM INT
  # That there is no room says nothing of the backup: its test has not failed.
  while read -r role _live; do
    check_database_room "$folder" "$role"
  done <<<"$tested_databases"
  say "testing $BACKUP_NAME: restoring it into a scratch database"
  # Not as a condition, which would switch off `set -e` in all that is called.
  set +e
  (
    set -e
    try "$folder" "$tested_databases"
  )
  result=$?
  set -e
  if ((result)); then
    tested false $((SECONDS - started)) 'it could not be restored, or is not what its manifest says' |
      write_file "$folder/tested.json"
    list
    fail "the restore test of $BACKUP_NAME failed: see the lines above"
  fi
  tested true $((SECONDS - started)) '' | write_file "$folder/tested.json"
  say "$BACKUP_NAME can be restored: revisions and numbers of rows are those of its manifest"
  list
}

comment_on() {
  sql "$maintenance" --set=name="$1" --set=comment="$2" <<'SQL'
COMMENT ON DATABASE :"name" IS :'comment';
SQL
}

comment_of() {
  sql "$maintenance" --set=name="$1" <<'SQL'
SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = :'name';
SQL
}

# What a verified database is marked with: the very backup it was made from.
mark_of() {
  printf 'mlops.mlflow: prepared from %s, %s' "$BACKUP_NAME" \
    "$(sha256sum "$1/manifest.json" | cut -c1-16)"
}

prepare() {
  local folder all role live target
  folder=$(chosen)
  all=$(databases)
  check_versions
  : >"$folder/restoring"
  while read -r role live; do
    # From here to the swap it is not: the same backup may have been restored before.
    if [[ $(comment_of "$live") == "mlops.mlflow: restored from "* ]]; then comment_on "$live" ''; fi
    target=$live$prepared_suffix
    if [[ $(comment_of "$target") == "$(mark_of "$folder")" ]]; then
      say "$target is there already, restored and compared"
      continue
    fi
    drop_ours "$target"
    check_database_room "$folder" "$role"
    create_like "$live" "$target"
    say "restoring $BACKUP_NAME into $target"
    fill "$folder" "$role" "$target"
    comment_on "$target" "$(mark_of "$folder")"
    say "$target has the revisions and numbers of rows of the manifest"
  done <<<"$all"
}

# One transaction renames all of it: there is no moment at which a database is missing, and none at
# which one is the old and the other the new. A database is renamed only while nobody is in it.
swap() {
  local folder all role live stamp statements='' leave='' attempt
  folder=$(chosen)
  all=$(databases)
  stamp=$(date -u +%Y%m%dT%H%M%SZ)
  while read -r role live; do
    # A try before this one may have got that far: the transaction is there as a whole or not at all.
    if [[ $(comment_of "$live") == "mlops.mlflow: restored from $BACKUP_NAME" &&
      -z $(comment_of "$live$prepared_suffix") ]]; then
      say "$live is the restored one already"
      return
    fi
    [[ $(comment_of "$live$prepared_suffix") == "$(mark_of "$folder")" ]] ||
      fail "$live$prepared_suffix was not prepared from $BACKUP_NAME"
    statements+="
ALTER DATABASE \"$live\" RENAME TO \"$live$replaced_suffix$stamp\";
ALTER DATABASE \"$live$prepared_suffix\" RENAME TO \"$live\";
COMMENT ON DATABASE \"$live$replaced_suffix$stamp\" IS 'mlops.mlflow: replaced by $BACKUP_NAME';
COMMENT ON DATABASE \"$live\" IS 'mlops.mlflow: restored from $BACKUP_NAME';"
    leave+="${leave:+, }'$live', '$live$prepared_suffix'"
  done <<<"$all"
  for attempt in 1 2 3 4 5 6; do
    sql "$maintenance" >/dev/null <<SQL || true
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE datname IN ($leave) AND pid <> pg_backend_pid();
SQL
    if sql "$maintenance" <<<"BEGIN; $statements COMMIT;"; then
      rm -f "$folder/restoring"
      say "restored: what was live is kept as $(while read -r role live; do
        printf '%s ' "$live$replaced_suffix$stamp"
      done <<<"$all")"
      return
    fi
    say "somebody came back to the database; try $attempt of 6"
    sleep 1
  done
  sql "$maintenance" >&2 <<SQL || true
SELECT format('backup: in %s is %s (%s, %s)', datname, usename, application_name, client_addr)
  FROM pg_stat_activity WHERE datname IN ($leave);
SQL
  fail "the databases could not be swapped: others are connected to them; nothing was changed"
}

forget() {
  local all live name
  all=$(databases)
  while read -r _role live; do
    while read -r name; do
      if [[ -n $name ]]; then
        drop_database "$name"
        say "dropped $name"
      fi
    done < <(sql "$maintenance" --set=live="$live" <<'SQL'
SELECT datname FROM pg_database WHERE starts_with(datname, :'live' || '_before_')
  AND shobj_description(oid, 'pg_database') LIKE 'mlops.mlflow: replaced by %';
SQL
    )
  done <<<"$all"
}

case "${1:-}" in
  backup) take ;;
  list) list ;;
  check) check ;;
  since) since ;;
  test) run_test ;;
  prepare) prepare ;;
  swap) swap ;;
  forget) forget ;;
  send) send ;;
  receive) receive ;;
  hold) exec sleep "${BACKUP_HOLD:-600}" ;;
  *) fail "usage: backup.sh backup|list|check|since|test|prepare|swap|forget|send|receive|hold" ;;
esac

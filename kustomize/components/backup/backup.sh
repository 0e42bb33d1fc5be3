#!/usr/bin/env bash
# Takes, tests, lists and restores backups of MLflow's databases, with Postgres' own programs.
#
#   backup.sh backup    take one, then delete what is not to be kept any longer
#   backup.sh list      say which there are
#   backup.sh check     compute the checksums of $BACKUP_NAME
#   backup.sh since     count what the live database has, to compare it with $BACKUP_NAME
#   backup.sh test      restore $BACKUP_NAME into a scratch database, compare, drop it
#   backup.sh drill     test the latest, and see whether the live database is damaged
#   backup.sh rehearse  restore $BACKUP_NAME into another scratch database, and leave it there, for the
#                       next MLflow's migration to be tried on (schema.py rehearse drops it)
#   backup.sh elsewhere restore $BACKUP_NAME into a Postgres of its own, of the version of these programs
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
# What is being written, and the databases that are being tested: these go when this process does, whatever
# ends it but SIGKILL; after that, with the next one.
partial=''
tested_databases=''
tmp=$(mktemp -d)
own_server=''
clean_up() {
  local live
  if [[ -n $own_server ]]; then pg_ctl stop --silent --pgdata="$own_server" --mode=immediate || true; fi
  while read -r _role live; do
    if [[ -n $live ]]; then (drop_ours "$live$scratch_suffix") || true; fi
  done <<<"$tested_databases"
  rm -rf "$tmp" ${partial:+"$partial"}
}
trap clean_up EXIT
trap 'exit 143' TERM INT

dir=${BACKUP_DIR:-/backups}
image_file=${BACKUP_IMAGE_FILE:-/work/image.json}
# Beside it, what keys.py has written.
keys_file=${image_file%/*}/keys.json
admin_file=${image_file%/*}/admin.json
export PGAPPNAME=mlops-mlflow-backup PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-5}
maintenance=${BACKUP_MAINTENANCE_DATABASE:-postgres}
# A connection that carries nothing for a while is dropped by many a NAT and load balancer, and a dump
# may count for longer than that. libpq takes these settings from a service's entry only.
service_file=${BASH_SOURCE[0]%/*}/pg_service.conf
if [[ -z ${PGSERVICE:-} && -r $service_file ]]; then
  export PGSERVICEFILE=$service_file PGSERVICE=mlflow-backup
fi
scratch_suffix=_restore_test
rehearsal_suffix=_rehearsal
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
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    -- An extension brings its own.
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
      AND d.classid = 'pg_catalog.pg_class'::regclass) \gset
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
# What a dump does not carry, or carries only where the role may: a line each, and no value, which may
# be a secret. It runs in the database that it is about.
properties=$(
  cat <<'SQL'
SELECT coalesce(json_agg(line ORDER BY line), '[]') AS properties FROM (
  SELECT 'extension ' || extname FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'
  UNION SELECT format('setting %s', split_part(setting, '=', 1))
      || coalesce(' of role ' || rolname, '')
    FROM pg_catalog.pg_database d JOIN pg_catalog.pg_db_role_setting s ON setdatabase = d.oid
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = setrole, unnest(setconfig) AS setting
    WHERE datname = current_database()
  UNION SELECT format('connection limit %s', datconnlimit) FROM pg_catalog.pg_database
    WHERE datname = current_database() AND datconnlimit <> -1
  UNION SELECT format('owner %s of the database', pg_catalog.pg_get_userbyid(datdba))
    FROM pg_catalog.pg_database
    WHERE datname = current_database() AND pg_get_userbyid(datdba) <> current_user
  UNION SELECT format('locale %s (%s, %s%s)', CASE row ->> 'datlocprovider' WHEN 'i' THEN 'of ICU'
      WHEN 'b' THEN 'of Postgres' ELSE 'of the system' END, row ->> 'datcollate', row ->> 'datctype',
      ', ' || coalesce(row ->> 'datlocale', row ->> 'daticulocale'))
    FROM (SELECT to_jsonb(d) AS row FROM pg_catalog.pg_database d
      WHERE datname = current_database()) AS d
  UNION SELECT format('privilege %s of %s on the database', privilege_type,
      coalesce(rolname, 'everybody'))
    FROM pg_catalog.pg_database, aclexplode(datacl) AS a
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = grantee
    WHERE datname = current_database() AND grantee <> datdba
  UNION SELECT format('privileges of %s on tables', coalesce(rolname, 'everybody'))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace,
      aclexplode(relacl) AS a LEFT JOIN pg_catalog.pg_roles r ON r.oid = grantee
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND grantee <> relowner
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
        AND d.classid = 'pg_catalog.pg_class'::regclass)
) AS lines (line) \gset
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

# Why this role cannot put a restored database in the live one's place, and what to do about it; nothing
# if it can. A database is renamed by its owner.
hindrance() {
  local names=''
  while read -r _role live; do names+=" $live"; done <<<"$1"
  sql "$maintenance" --set=names="$names" <<'SQL'
SELECT CASE WHEN NOT (rolcreatedb OR rolsuper) THEN
      format('role %s may not create databases, which a restore and its test need; have an administrator'
        ' run: ALTER ROLE "%s" CREATEDB', rolname, replace(rolname, '"', '""'))
    WHEN live IS NOT NULL THEN
      format('role %s does not own the database %s, which a restore renames; have an administrator'
        ' run: ALTER DATABASE "%s" OWNER TO "%s"', rolname, live, live, replace(rolname, '"', '""'))
    ELSE '' END
  FROM pg_catalog.pg_roles, (SELECT min(datname) AS live FROM pg_catalog.pg_database
    WHERE datname = ANY (string_to_array(:'names', ' ')) AND NOT pg_has_role(datdba, 'USAGE')) AS d
  WHERE rolname = current_user;
SQL
}

# Whether a restore can do all that it does.
privileges() {
  sql "$maintenance" --set=hindrance="$(hindrance "$1")" <<'SQL'
SELECT '@role ' || json_build_object('name', current_user, 'hindrance', :'hindrance');
SQL
}

# The image's own schema, and the databases that a restore would meet.
surroundings() {
  local role live
  if [[ -e $image_file ]]; then printf '@image %s\n' "$(one_line "$image_file")"; fi
  if [[ -e $keys_file ]]; then printf '@keys %s\n' "$(one_line "$keys_file")"; fi
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
  privileges "$1"
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
$properties
\\set bytes \`stat -c %s "\$DUMP"\`
\\set sha256 \`sha256sum "\$DUMP" | cut -d' ' -f1\`
SELECT json_build_object('role', :'role', 'name', current_database(), 'file', :'role' || '.dump',
  'bytes', :'bytes'::bigint, 'sha256', :'sha256', 'size', pg_database_size(current_database()),
  'revisions', :'revisions'::json, 'rows', :'rows'::json, 'properties', :'properties'::json);
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
  privileges "$all"
  name=$(date -u +%Y%m%dT%H%M%SZ)
  [[ ! -e $dir/$name ]] || fail "there is a backup $name already"
  partial=$dir/.taking-$name
  mkdir -m 0700 "$partial"
  say "taking $name"
  while read -r role database; do
    found+="${found:+,}$(dump "$role" "$database" "$partial")"
  done <<<"$all"
  # psql writes the JSON, so that whatever a name holds is quoted.
  sql "$maintenance" --set=databases="[$found]" --set=name="$name" \
    --set=image="$(one_line "$image_file")" --set=keys="$(one_line "$keys_file")" --set=release="${BACKUP_RELEASE:-}" \
    --set=store="$(artifact_store)" --set=reason="${BACKUP_REASON:-}" >"$partial/manifest.json" <<'SQL'
SELECT json_build_object('format', 1, 'name', :'name',
  'time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
  'mlflow', :'image'::json ->> 'mlflow', 'release', :'release', 'artifact_store', :'store',
  'reason', :'reason', 'postgres', current_setting('server_version'), 'keys', :'keys'::json,
  'databases', :'databases'::json);
SQL
  (cd "$partial" && sha256sum manifest.json >manifest.sha256)
  if [[ ${BACKUP_MARK:-false} == true ]]; then : >"$partial/keep"; fi
  sync "$partial"/* "$partial"
  mv "$partial" "$dir/$name"
  partial=''
  sync "$dir"
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

# Computes what the files are; whether that is what they should be is for whoever reads it.
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
  privileges "$all"
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

# Makes a database that is not there, empty: a server that is new has none for the users yet.
have() {
  exists "$1" || sql "$maintenance" --set=name="$1" <<<'CREATE DATABASE :"name" TEMPLATE template0;'
}

drop_database() {
  sql "$maintenance" --set=name="$1" <<'SQL'
SET client_min_messages = warning;
DROP DATABASE IF EXISTS :"name" WITH (FORCE);
SQL
}

# An empty database like another one: encoding, locale and tablespace cannot be changed later.
create_like() {
  sql "$maintenance" --set=like="$1" --set=name="$2" <<'SQL'
SELECT coalesce((SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L',
        :'name', pg_encoding_to_char((row ->> 'encoding')::int), row ->> 'datcollate', row ->> 'datctype')
      || CASE row ->> 'datlocprovider' WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', locale)
        WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', locale)
        WHEN 'c' THEN ' LOCALE_PROVIDER libc' ELSE '' END
      || coalesce(' ICU_RULES ' || quote_literal(row ->> 'daticurules'), '')
      || CASE WHEN has_tablespace_privilege(spcname, 'CREATE')
        THEN format(' TABLESPACE %I', spcname) ELSE '' END
    FROM (SELECT to_jsonb(d) AS row, d.dattablespace FROM pg_database d WHERE datname = :'like') AS d
      JOIN pg_tablespace t ON t.oid = dattablespace,
      LATERAL (SELECT coalesce(row ->> 'datlocale', row ->> 'daticulocale')) AS l (locale)),
  format('CREATE DATABASE %I TEMPLATE template0', :'name')) \gexec
SQL
  comment_on "$2" "${ours}being restored"
}

# Runs SQL of which each statement may fail, and says which did, and why.
attempt() {
  local line
  while read -r line; do
    if [[ $line == *ERROR:* ]]; then say "not carried: ${line#*ERROR:  }"; fi
  done < <(sql "$1" --set=ON_ERROR_STOP=0 --set=VERBOSITY=terse --output=/dev/null "${@:2}" 2>&1 |
    sort --unique)
}

# Gives a restored database what belongs to a database by itself, and so is in no dump: the live one's.
carry() {
  attempt "$maintenance" --set=live="$1" --set=name="$2" <<'SQL'
SELECT format('ALTER DATABASE %I CONNECTION LIMIT %s', :'name', datconnlimit) FROM pg_database
  WHERE datname = :'live' AND datconnlimit <> -1 \gexec
-- A value that is a list is taken as it is stored, any other one as a literal.
SELECT unnest(CASE WHEN key IN ('search_path', 'temp_tablespaces', 'session_preload_libraries',
      'shared_preload_libraries', 'local_preload_libraries', 'unix_socket_directories')
    THEN ARRAY[format('SELECT set_config(%L, %L, false)', key, value),
      format('ALTER %s SET %s FROM CURRENT', whose, key), format('RESET %s', key)]
    ELSE ARRAY[format('ALTER %s SET %s TO %L', whose, key, value)] END)
  FROM (SELECT split_part(setting, '=', 1) AS key, substr(setting, strpos(setting, '=') + 1) AS value,
      coalesce('ROLE ' || quote_ident(rolname) || ' IN ', '') || format('DATABASE %I', :'name') AS whose
    FROM pg_database d JOIN pg_db_role_setting s ON setdatabase = d.oid
      LEFT JOIN pg_roles r ON r.oid = setrole, unnest(setconfig) AS setting
    WHERE datname = :'live') AS s \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'name') FROM pg_database
  WHERE datname = :'live' AND datacl IS NOT NULL \gexec
SELECT format('GRANT %s ON DATABASE %I TO %s', privilege_type, :'name',
    coalesce(quote_ident(rolname), 'PUBLIC')) || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
  FROM pg_database, aclexplode(datacl) AS a LEFT JOIN pg_roles r ON r.oid = grantee
  WHERE datname = :'live' AND grantee <> datdba \gexec
-- Last: until here it is ours to change.
SELECT format('ALTER DATABASE %I OWNER TO %I', :'name', pg_get_userbyid(datdba)) FROM pg_database
  WHERE datname = :'live' AND pg_get_userbyid(datdba) <> current_user \gexec
SQL
}

properties_of() {
  sql "$1" <<SQL
$properties
\\echo :properties
SQL
}

# Says what the backup's database or the live one has, and the restored one has not.
lost() {
  local folder=$1 role=$2 live=$3 target=$4
  sql "$maintenance" --set=role="$role" --set=name="$live" \
    --set=manifest="$(one_line "$folder/manifest.json")" \
    --set=live="$(properties_of "$live")" --set=target="$(properties_of "$target")" <<'SQL'
WITH lost AS (SELECT jsonb_array_elements_text(d -> 'properties') AS line
    FROM jsonb_array_elements(:'manifest'::jsonb -> 'databases') AS d WHERE d ->> 'role' = :'role'
  UNION SELECT jsonb_array_elements_text(:'live')
  EXCEPT SELECT jsonb_array_elements_text(:'target'))
SELECT '@lost ' || json_build_object('database', :'name', 'what', json_agg(line ORDER BY line))
  FROM lost HAVING count(*) > 0;
SQL
}

# Restored, a database takes the room it had, and some for what is written ahead. How much there is, only
# the release's own server lets itself be asked (base/postgres-roles.sql); another one's keeper knows.
check_database_room() {
  local folder=$1 role=$2 needed free
  needed=$(sql "$maintenance" --set=role="$role" \
    --set=manifest="$(one_line "$folder/manifest.json")" <<'SQL'
SELECT (67108864 + (d ->> 'size')::numeric)::bigint
  FROM jsonb_array_elements(:'manifest'::jsonb -> 'databases') AS d WHERE d ->> 'role' = :'role';
SQL
  )
  free=$(sql "$maintenance" <<'SQL'
SELECT to_regprocedure('public.mlops_room()') IS NOT NULL AS may \gset
\if :may
SELECT public.mlops_room();
\endif
SQL
  )
  if [[ -n $needed && -n $free ]] && ((free < needed)); then
    fail "the database's volume has $((free / 1048576)) MiB left and ${folder##*/} takes" \
      "$((needed / 1048576)) MiB there; enlarge it, or drop what earlier restores replaced" \
      "(mlflow_restore_drop_replaced)"
  fi
}

# Whose everything is, is the release's own to say.
owned=(--no-owner --no-publications --no-subscriptions)

# Settings that newer programs than the server begin with, and that it does not have.
unknown_settings() {
  comm -13 <(sql "$maintenance" <<<'SELECT name FROM pg_settings;' | LC_ALL=C sort) \
    <(pg_restore --file=- --use-list=/dev/null "$1" | awk '$1 == "SET" { print $2 }' | LC_ALL=C sort -u) |
    tr '\n' ' '
}

# A dump as SQL, without such settings. What stands in a row is data, whatever it looks like.
as_sql() {
  pg_restore --file=- "${owned[@]}" "${@:2}" | awk -v unknown="$1" '
    BEGIN { count = split(unknown, names, " "); for (i = 1; i <= count; i++) left[names[i]] = 1 }
    /^-- Name: / { body = 1 }
    !body && $1 == "SET" && ($2 in left) { next }
    { print }'
}

# What of a dump this role can restore, as pg_restore lists it. An extension that was put there by
# somebody who may more than this role is left out.
restorable() {
  local file=$1 target=$2 extension reason all left=''
  all=$(pg_restore --list "$file")
  while read -r extension; do
    reason=$(sql "$target" --set=name="$extension" 2>&1 >/dev/null <<'SQL'
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS :"name" CASCADE;
ROLLBACK;
SQL
    ) || {
      say "not carried: extension $extension: ${reason##*ERROR:  }" >&2
      left+="|EXTENSION - $extension|COMMENT - EXTENSION $extension"
    }
  done < <(sed -nE 's/^[0-9]+; [0-9]+ [0-9]+ EXTENSION - (.*[^ ]) *$/\1/p' <<<"$all")
  awk -v left="$left" '
    BEGIN { count = split(left, names, "|"); for (i = 1; i <= count; i++) if (names[i]) out[names[i]] = 1 }
    { entry = $0; sub(/^[0-9]+; [0-9]+ [0-9]+ /, "", entry); sub(/ +$/, "", entry) }
    !(entry in out)' <<<"$all"
}

# Restores one dump into an empty database. Where a setting has to be left out, without parallel jobs.
restore_dump() {
  local file=$1 target=$2 entries=$tmp/entries failed unknown
  failed="${file##*/} could not be restored: see the lines above"
  unknown=$(unknown_settings "$file")
  restorable "$file" "$target" >"$entries"
  if [[ -z $unknown ]]; then
    pg_restore --dbname="$target" "${owned[@]}" --no-privileges --exit-on-error \
      --use-list="$entries" --jobs="${BACKUP_JOBS:-2}" "$file" || fail "$failed"
  else
    as_sql "$unknown" --no-privileges --use-list="$entries" "$file" |
      sql "$target" --output=/dev/null || fail "$failed"
  fi
  # Who may what on tables: whom the server does not know goes without.
  sed -nE '/^[0-9]+; [0-9]+ [0-9]+ (DEFAULT )?ACL /p' "$entries" >"$entries.acl"
  as_sql "$unknown" --use-list="$entries.acl" "$file" | attempt "$target"
}

# Restores one dump into an empty database, and compares that with the manifest.
fill() {
  local folder=$1 role=$2 target=$3 found
  restore_dump "$folder/$role.dump" "$target"
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
  local folder=$1 all=$2 role live scratch
  while read -r role live; do
    scratch=$live$scratch_suffix
    rebuild "$folder" "$role" "$live" "$scratch"
    drop_ours "$scratch"
  done <<<"$all"
}

# Makes one database of a backup what the live one could be replaced by.
rebuild() {
  create_like "$3" "$4"
  fill "$1" "$2" "$4"
  carry "$3" "$4"
  lost "$@"
}

run_test() {
  local folder all started=$SECONDS reason result role live _live
  lock_folder
  folder=$(chosen)
  all=$(databases)
  check_versions
  # Also what an earlier test left that was killed.
  while read -r _role live; do
    (drop_ours "$live$scratch_suffix")
    drop_rehearsal "$live"
  done <<<"$all"
  # Which says nothing of the backup, and is no failure of its test: it was not made.
  reason=$(hindrance "$all")
  if [[ -n $reason ]]; then
    say "${folder##*/} was not tested: $reason"
    privileges "$all"
    list
    return
  fi
  tested_databases=$all
  # That there is no room says nothing of the backup: its test has not failed.
  while read -r role _live; do
    check_database_room "$folder" "$role"
  done <<<"$all"
  say "testing ${folder##*/}: restoring it into a scratch database"
  # Not as a condition, which would switch off `set -e` in all that is called.
  set +e
  (
    set -e
    try "$folder" "$all"
  )
  result=$?
  set -e
  if ((result)); then
    tested false $((SECONDS - started)) 'it could not be restored, or is not what its manifest says' |
      write_file "$folder/tested.json"
    list
    fail "the restore test of ${folder##*/} failed: see the lines above"
  fi
  tested true $((SECONDS - started)) '' | write_file "$folder/tested.json"
  say "${folder##*/} can be restored: revisions and numbers of rows are those of its manifest"
  list
}

# What is damaged in the live databases while they still answer: a line each.
damage() {
  local live
  while read -r _role live; do
    sql "$live" <<'SQL'
SELECT format('index %s is not used, as making it failed: DROP INDEX %s, and make it again',
  indexrelid::regclass, indexrelid::regclass) FROM pg_index WHERE NOT indisvalid;
SELECT format('%s pages of %s were not what was written: its disk or driver is broken', checksum_failures,
  datname) FROM pg_stat_database WHERE datname = current_database() AND checksum_failures > 0;
-- Text is sorted by rules of the C library. Postgres has this from version 15 on.
SELECT to_regprocedure('pg_database_collation_actual_version(oid)') IS NOT NULL AS known \gset
\if :known
SELECT format('%s was made with another C library, whose order its indexes have: REINDEX DATABASE %I, and '
    'then ALTER DATABASE %I REFRESH COLLATION VERSION', datname, datname, datname) FROM pg_database
  WHERE datname = current_database() AND datcollversion <> pg_database_collation_actual_version(oid);
\endif
SQL
  done <<<"$1"
}

# Where it fails, the alert about backups says so. The backup itself has been tested by then.
drill() {
  local found
  BACKUP_NAME=latest
  run_test
  found=$(damage "$(databases)")
  if [[ -n $found ]]; then
    printf 'backup: the live database needs you:\n%s\n' "$found" >&2
    fail "the backup is good; see the lines above for the live database"
  fi
}

# For a migration to be tried on. It stays only when all of it is there.
rehearse() {
  local folder all role live reason
  scratch_suffix=$rehearsal_suffix
  lock_folder
  folder=$(chosen)
  all=$(databases)
  check_versions
  reason=$(hindrance "$all")
  [[ -z $reason ]] || fail "$reason"
  tested_databases=$all
  while read -r role live; do
    drop_ours "$live$scratch_suffix"
    check_database_room "$folder" "$role"
    say "restoring ${folder##*/} into $live$scratch_suffix"
    rebuild "$folder" "$role" "$live" "$live$scratch_suffix"
  done <<<"$all"
  tested_databases=''
  printf '@chosen %s unchecked\n' "${folder##*/}"
  list
}

# A version that no server of the release has yet: it runs here, for this process alone, in what room the
# pod has. Its data is gone with it.
elsewhere() {
  local folder all live
  folder=$(chosen)
  all=$(databases)
  unset PGPASSWORD PGSSLMODE PGSSLROOTCERT PGCHANNELBINDING PGREQUIREAUTH PGHOSTADDR PGPASSFILE
  export PGHOST=$tmp PGPORT=5432 PGUSER=postgres
  maintenance=postgres
  initdb --pgdata="$tmp/data" --username="$PGUSER" --auth=trust --encoding=UTF8 --no-sync >/dev/null
  own_server=$tmp/data
  if ! pg_ctl start --silent --wait --pgdata="$own_server" --log="$tmp/log" --options="-c listen_addresses= \
    -c unix_socket_directories=$tmp -c port=$PGPORT -c fsync=off -c shared_buffers=32MB"; then
    cat "$tmp/log" >&2
    fail "a Postgres of its own does not start here"
  fi
  check_versions
  while read -r _role live; do have "$live"; done <<<"$all"
  say "restoring ${folder##*/} into Postgres $(server_version)"
  try "$folder" "$all"
  say "${folder##*/} can be restored into Postgres $(server_version): revisions and numbers of rows are" \
    "those of its manifest"
  printf '@chosen %s unchecked\n' "${folder##*/}"
  list
}

# What a rehearsal left that was killed; one that is at work is in it.
drop_rehearsal() {
  if [[ $(comment_of "$1$rehearsal_suffix") == "$ours"* ]]; then
    attempt "$maintenance" --set=name="$1$rehearsal_suffix" <<<'DROP DATABASE IF EXISTS :"name";'
  fi
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
  local folder all role live target reason
  folder=$(chosen)
  all=$(databases)
  check_versions
  reason=$(hindrance "$all")
  [[ -z $reason ]] || fail "$reason"
  : >"$folder/restoring"
  while read -r role live; do
    have "$live"
    # From here to the swap it is not: the same backup may have been restored before.
    if [[ $(comment_of "$live") == "mlops.mlflow: restored from "* ]]; then comment_on "$live" ''; fi
    target=$live$prepared_suffix
    if [[ $(comment_of "$target") == "$(mark_of "$folder")" ]]; then
      say "$target is there already, restored and compared"
      lost "$folder" "$role" "$live" "$target"
      continue
    fi
    drop_ours "$target"
    check_database_room "$folder" "$role"
    say "restoring $BACKUP_NAME into $target"
    rebuild "$folder" "$role" "$live" "$target"
    let_administrator_in "$folder" "$target"
    comment_on "$target" "$(mark_of "$folder")"
    say "$target has the revisions and numbers of rows of the manifest"
  done <<<"$all"
  nobody_in_the_way "$all"
}

# The administrator's password is the release's, if it was another one at the backup. Its hash is in no
# argument.
let_administrator_in() {
  [[ -e $admin_file ]] || return 0
  ADMIN=$admin_file sql "$2" --set=keys="$(one_line "$keys_file")" \
    --set=manifest="$(one_line "$1/manifest.json")" <<'SQL'
\set admin `cat "$ADMIN"`
SELECT to_regclass('users') IS NOT NULL AND (:'manifest'::json -> 'keys' ->> 'admin-password')
  IS DISTINCT FROM (:'keys'::json ->> 'admin-password') AS other \gset
\if :other
UPDATE users SET password_hash = :'admin'::json ->> 'password_hash'
  WHERE username = :'admin'::json ->> 'username';
\endif
SQL
}

# A database is renamed while nobody is in it. Whom this role cannot put out of it is told before the
# servers are stopped.
nobody_in_the_way() {
  local names='' found attempt
  while read -r _role live; do names+=" $live"; done <<<"$1"
  for attempt in 1 2 3 4 5 6; do
    found=$(sql "$maintenance" --set=names="$names" <<'SQL'
SELECT string_agg(DISTINCT format('%s (%s)', usename, application_name), ', ')
  FROM pg_stat_activity a JOIN pg_roles r ON r.oid = usesysid, pg_roles me
  WHERE datname = ANY (string_to_array(:'names', ' ')) AND me.rolname = current_user
    AND NOT (me.rolsuper OR NOT r.rolsuper
      AND (pg_has_role(usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')));
SQL
    )
    if [[ -z $found ]]; then return; fi
    if ((attempt < 6)); then sleep 1; fi
  done
  fail "connected to the database are sessions of roles that this one cannot end: $found; while they are," \
    "nothing can take the database's place: have them leave; nothing was changed"
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
      rm -f "$folder/restoring"
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
  drill) drill ;;
  rehearse) rehearse ;;
  elsewhere) elsewhere ;;
  prepare) prepare ;;
  swap) swap ;;
  forget) forget ;;
  send) send ;;
  receive) receive ;;
  hold) exec sleep "${BACKUP_HOLD:-600}" ;;
  *) fail "usage: backup.sh backup|list|check|since|test|drill|rehearse|elsewhere|prepare|swap|forget|send|receive|hold" ;;
esac

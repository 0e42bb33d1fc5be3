-- Brings the roles to what a release needs, at each start. Given: mlops.login, mlops.password.
--
-- The superuser is postgres, and comes by the pod's socket alone. The owner of MLflow's database is a role
-- without rights beyond it: it may make databases, for a restore beside the live one, end the sessions
-- there, and see who blocks it. A rotation has two roles take turns; both act as the owner.
--
-- In an installation of before, the superuser was MLflow's own role. It gets its name, its password and
-- its members back as a role that is no superuser. All of it happens, or nothing.
DO $$
DECLARE
  login text := current_setting('mlops.login');
  was text := (SELECT rolname FROM pg_authid WHERE oid = 10);
  verifier text := (SELECT rolpassword FROM pg_authid WHERE oid = 10);
  owner text := coalesce(
    (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'mlflow' AND datdba <> 10),
    regexp_replace(login, '_b$', ''));
  name text;
BEGIN
  IF login = 'postgres' OR owner = 'postgres' THEN
    RAISE 'database-username must not be postgres, which is the superuser';
  END IF;
  IF was <> 'postgres' THEN
    -- Nobody renames the role that a session began with.
    CREATE ROLE mlops_start SUPERUSER;
    SET SESSION AUTHORIZATION mlops_start;
    EXECUTE format('ALTER ROLE %I RENAME TO postgres', was);
    SET SESSION AUTHORIZATION postgres;
    DROP ROLE mlops_start;
    EXECUTE format('CREATE ROLE %I LOGIN PASSWORD %L', was, verifier);
    FOR name IN SELECT pg_get_userbyid(member) FROM pg_auth_members WHERE roleid = 10 LOOP
      EXECUTE format('REVOKE postgres FROM %I', name);
      EXECUTE format('GRANT %I TO %I', was, name);
    END LOOP;
  END IF;
  FOREACH name IN ARRAY ARRAY[owner, login] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
      EXECUTE format('CREATE ROLE %I', name);
    END IF;
  END LOOP;
  EXECUTE format('ALTER ROLE %I NOSUPERUSER CREATEDB', owner);
  EXECUTE format('GRANT pg_signal_backend, pg_read_all_stats TO %I', owner);
  FOREACH name IN ARRAY ARRAY[was, login] LOOP
    IF name NOT IN (owner, 'postgres') THEN
      EXECUTE format('ALTER ROLE %I NOSUPERUSER', name);
      EXECUTE format('GRANT %I TO %I', owner, name);
      EXECUTE format('ALTER ROLE %I SET role = %L', name, owner);
    END IF;
  END LOOP;
  EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', login, current_setting('mlops.password'));
  ALTER ROLE postgres PASSWORD NULL;
  PERFORM set_config('mlops.owner', owner, false);
END $$;

-- How much room the volume has, which a restore asks before it begins, and only the superuser may ask.
CREATE OR REPLACE FUNCTION public.mlops_room() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  line text;
BEGIN
  CREATE TEMPORARY TABLE mlops_room (line text) ON COMMIT DROP;
  COPY mlops_room FROM PROGRAM 'df -Pk "$PGDATA" | tail -n 1';
  SELECT m.line INTO line FROM mlops_room AS m;
  RETURN (regexp_split_to_array(line, '\s+'))[4]::bigint * 1024;
END $$;

-- What is to be done next, a word and a name.
SELECT 'owner ' || current_setting('mlops.owner') AS step
UNION ALL
SELECT 'give ' || datname FROM pg_database
WHERE datdba = 10 AND datname NOT IN ('postgres', 'template0', 'template1')
UNION ALL
SELECT 'make mlflow' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'mlflow');

-- Gives what the superuser owns in this database to mlops.owner, and the database last: one that was cut off
-- is done again at the next start. What belongs to an extension stays.
DO $$
DECLARE
  owner text := current_setting('mlops.owner');
  statement text;
BEGIN
  FOR statement IN
    SELECT format('ALTER SCHEMA %I OWNER TO %I', nspname, owner) FROM pg_namespace
    WHERE nspowner = 10 AND (oid >= 16384 OR nspname = 'public')
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_namespace.oid AND deptype = 'e')
    UNION ALL
    -- Indexes and sequences of a table follow it.
    SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, owner) FROM pg_class
    WHERE relowner = 10 AND oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND NOT EXISTS (
        SELECT FROM pg_depend
        WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype IN ('e', 'a', 'i'))
    UNION ALL
    SELECT format('ALTER ROUTINE %s OWNER TO %I', oid::regprocedure, owner) FROM pg_proc
    WHERE proowner = 10 AND oid >= 16384
      AND NOT EXISTS (
        SELECT FROM pg_depend
        WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype IN ('e', 'i'))
    UNION ALL
    SELECT format('ALTER TYPE %s OWNER TO %I', oid::regtype, owner) FROM pg_type
    WHERE typowner = 10 AND oid >= 16384 AND typtype IN ('e', 'd', 'r', 'c')
      AND (typrelid = 0 OR (SELECT relkind FROM pg_class WHERE oid = typrelid) = 'c')
      AND NOT EXISTS (
        SELECT FROM pg_depend
        WHERE classid = 'pg_type'::regclass AND objid = pg_type.oid AND deptype IN ('e', 'i'))
    UNION ALL
    SELECT format('ALTER LARGE OBJECT %s OWNER TO %I', oid, owner) FROM pg_largeobject_metadata
    WHERE lomowner = 10
  LOOP
    EXECUTE statement;
  END LOOP;
  EXECUTE format('ALTER DATABASE %I OWNER TO %I', current_database(), owner);
END $$;

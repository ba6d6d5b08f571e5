-- The role that the portal runs under. It belongs to the server, and other databases may have made
-- it; it reads and inserts in whatever table is created from here on. What else it may do stands in
-- runtime_rights.sql.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'credit_portal_runtime') THEN
    CREATE ROLE credit_portal_runtime NOLOGIN;
  END IF;
  -- Since PostgreSQL 16 whoever makes a role may grant it, but may not yet change into it.
  IF NOT pg_has_role('credit_portal_runtime', CASE
    WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END) THEN
    EXECUTE format('GRANT credit_portal_runtime TO %I', current_user);
  END IF;
END $$;

GRANT USAGE ON SCHEMA public TO credit_portal_runtime;
GRANT SELECT ON alembic_version TO credit_portal_runtime;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO credit_portal_runtime;

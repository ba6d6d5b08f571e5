-- Accounts are found by any part of their name: by an index of its groups of three letters. The
-- extension comes with PostgreSQL, and the owner of a database may add it.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

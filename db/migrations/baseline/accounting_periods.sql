-- Locks a month of a site against its close, and says whether it is closed.
--
-- Each statement within sees what was committed before it began: a month that was closed while the
-- lock was waited for is found closed. One statement of SQL would not see that.
CREATE FUNCTION lock_accounting_period(lock_name text, site text, first_day date) RETURNS boolean
VOLATILE LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtextextended(lock_name, 0));
  RETURN coalesce((
    SELECT p.is_closed FROM accounting_periods p WHERE p.site_code = site AND p.month = first_day
  ), false);
END
$$;

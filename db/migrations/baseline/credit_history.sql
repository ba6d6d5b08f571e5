-- The service that the credit history shows an entry under; an index of entries is made of it.
CREATE FUNCTION shown_service(kind text, service text, source text) RETURNS text
IMMUTABLE PARALLEL SAFE LANGUAGE sql
RETURN coalesce(
  service, CASE WHEN kind IN ('top_up', 'refund', 'dispute') THEN source ELSE 'system' END
);

-- What was written once is never changed: by trigger for everyone, the tables' owner too.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is insert-only: answer a mistake with a reversal', TG_TABLE_NAME
    USING ERRCODE = 'integrity_constraint_violation';
END $$;

DO $$
DECLARE
  fact text;
BEGIN
  FOREACH fact IN ARRAY ARRAY[
    'tax_policies',
    'billing_profiles',
    'catalogue_versions', 'prices',
    'exchange_quotes',
    'idempotency_keys', 'finance_postings', 'finance_entries',
    'entries', 'grants', 'allocations',
    'holds', 'hold_allocations', 'hold_resolutions', 'refusals',
    'gateway_messages', 'payment_events',
    'documents', 'payment_credits',
    'audit_log', 'audit_seals',
    'staff_acts', 'account_notes',
    'usage_events',
    'campaign_parts', 'voucher_batches', 'voucher_redemptions'
  ] LOOP
    EXECUTE format(
      'CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
      ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', fact || '_insert_only', fact);
  END LOOP;
END $$;

-- Keys of calls are deleted when their site has kept them for as long as it says.
CREATE TRIGGER usage_keys_insert_only BEFORE UPDATE OR TRUNCATE ON usage_keys
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The lines of a finance posting balance in each currency, at the end of its transaction.
CREATE FUNCTION balance_posting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM finance_entries WHERE posting_id = NEW.posting_id
             GROUP BY currency HAVING sum(amount_micros) <> 0)
  THEN
    RAISE EXCEPTION 'finance posting % does not balance', NEW.posting_id
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER finance_entries_balance AFTER INSERT ON finance_entries
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION balance_posting();

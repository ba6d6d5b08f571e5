-- An account stays on its site, and keeps its currency once that is locked or there are entries.
CREATE FUNCTION keep_currency() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.site_code <> NEW.site_code
     OR OLD.currency <> NEW.currency AND (
       OLD.currency_locked_at IS NOT NULL
       OR EXISTS (SELECT FROM entries WHERE account_id = OLD.id))
  THEN
    RAISE EXCEPTION 'the site and the locked currency of account % do not change', OLD.id
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER accounts_keep_currency BEFORE UPDATE ON accounts
FOR EACH ROW EXECUTE FUNCTION keep_currency();

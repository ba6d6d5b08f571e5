-- The journal: double-entry lines of every allocation, and the finance postings beside them.

-- The same as domain.money.share_of for amounts of either sign, exact at every size.
CREATE FUNCTION share_of(total numeric, used numeric, whole numeric) RETURNS bigint
IMMUTABLE PARALLEL SAFE LANGUAGE sql
RETURN (sign(total) * sign(used) * div(2 * abs(total) * abs(used) + whole, 2 * whole))::bigint;

-- The tax inside what a grant gave away up to a point: what was used less what was paid for it.
CREATE FUNCTION tax_inside_free(used bigint, consideration bigint, whole bigint, rate numeric)
RETURNS bigint IMMUTABLE PARALLEL SAFE LANGUAGE sql
RETURN share_of(used - share_of(consideration, used, whole), rate, 1 + rate);

-- `moves` is each allocation with the amounts that its lines are made of, all signed as it is:
--   deed           what was done, or is reversed
--   liability      the account of deferred revenue that the grant belongs to
--   amount         of which `consideration` was paid for and `given` was not
--   tax            the tax inside the consideration; `tax_at_top_up` where it was due at the top-up
--   given_tax      the tax inside what was given for nothing
--   debt_tax       the tax inside a settled debt whose charge is reversed
--   paid           the money itself, where it is in another currency than the account: the very
--                  amount of the payment, refund or dispute, so that no rounding is left
--   counterpart    the account of the money. A reversal of a payment's credit stands on refunds
--                  payable (2150) until its money goes back; what is restored stands against what
--                  was booked when it was clawed back.
--
-- A line is a debit when positive and a credit when negative. In each rule one line is what the
-- others leave, so that no rounding unbalances an entry.
CREATE VIEW journal AS
WITH moves AS (
  SELECT e.account_id, e.account_sequence, a.line_number, e.kind, e.service, e.accounting_date,
    e.posted_at, c.site_code, c.currency, g.kind AS grant_kind, g.place_of_supply, g.tax_rate,
    coalesce(o.kind, e.kind) AS deed,
    a.grant_number = 0 AS is_debt, a.debt_cause, g.consideration_micros > 0 AS is_paid,
    CASE WHEN g.kind = 'plan' THEN '2110' ELSE '2100' END AS liability,
    a.amount_micros AS amount, a.consideration_micros AS consideration, a.tax_micros AS tax,
    CASE WHEN g.tax_point = 'TOP_UP' THEN a.tax_micros ELSE 0 END AS tax_at_top_up,
    a.amount_micros - a.consideration_micros AS given,
    CASE WHEN a.grant_number > 0 AND g.consideration_micros <> g.amount_micros
      THEN tax_inside_free(g.amount_micros - a.remaining_after_micros + a.amount_micros,
                           g.consideration_micros, g.amount_micros, g.tax_rate)
         - tax_inside_free(g.amount_micros - a.remaining_after_micros,
                           g.consideration_micros, g.amount_micros, g.tax_rate)
      ELSE 0 END AS given_tax,
    CASE WHEN e.kind = 'reversal' AND a.grant_number > 0 AND a.debt_cause IS NOT NULL
      THEN (
        SELECT share_of(-d.tax_micros, b.before + a.amount_micros, -d.amount_micros)
               - share_of(-d.tax_micros, b.before, -d.amount_micros)
        FROM allocations d,
          LATERAL (
            SELECT coalesce(sum(r.amount_micros), 0) AS before
            FROM entries q JOIN allocations r USING (account_id, account_sequence)
            WHERE q.account_id = e.account_id AND q.reverses_sequence = e.reverses_sequence
              AND r.debt_cause IS NOT NULL
              AND (r.account_sequence, r.line_number) < (a.account_sequence, a.line_number)
          ) b
        WHERE d.account_id = e.account_id AND d.account_sequence = e.reverses_sequence
          AND d.grant_number = 0
      ) ELSE 0 END AS debt_tax,
    p.paid_currency,
    CASE WHEN p.paid_currency IS NOT NULL AND a.line_number = 1
      THEN coalesce(-(e.description_parameters ->> 'paid_micros')::bigint, p.paid_micros)
      END AS paid,
    CASE
      WHEN e.kind = 'refund' OR e.description_code = 'refund_failed' THEN '2150'
      WHEN e.kind = 'reversal' AND EXISTS (
        SELECT FROM payment_credits x
        WHERE x.account_id = e.account_id AND x.entry_sequence = e.reverses_sequence) THEN '2150'
      WHEN e.kind = 'dispute' OR e.description_code = 'dispute_won' THEN '1120'
      WHEN e.source IN ('bank', 'bank_transfer') THEN '1010'
      ELSE '1110.' || e.source END AS counterpart
  FROM entries e
  JOIN allocations a ON a.account_id = e.account_id AND a.account_sequence = e.account_sequence
  JOIN grants g ON g.account_id = a.account_id AND g.grant_number = a.grant_number
  JOIN accounts c ON c.id = e.account_id
  LEFT JOIN entries o ON o.account_id = e.account_id AND o.account_sequence = e.reverses_sequence
  LEFT JOIN grants p ON p.account_id = e.account_id
    AND p.grant_number = CASE WHEN a.grant_number > 0 THEN a.grant_number
      ELSE (e.description_parameters #>> '{taken,0,grant}')::bigint END
    AND p.paid_currency <> c.currency AND p.consideration_micros > 0
),
rules AS (
  SELECT m.*,
    deed IN ('top_up', 'voucher', 'plan', 'adjustment', 'refund', 'dispute') AS is_money,
    deed = 'charge' AS is_charge
  FROM moves m
)
SELECT 'ledger' AS source, r.site_code, r.account_id, r.account_sequence,
  NULL::bigint AS posting_id, (r.line_number - 1) * 10 + leg.number AS line, r.kind, r.service,
  r.grant_kind, r.place_of_supply || ' ' || (r.tax_rate * 100)::numeric(5, 2) AS tax_code,
  leg.ledger_code, leg.currency, leg.amount::bigint AS amount_micros, r.accounting_date,
  r.posted_at
FROM rules r
CROSS JOIN LATERAL (VALUES
  -- Paid credit comes, goes, is used, lapses or settles a debt.
  (1, liability, currency,
   CASE WHEN NOT is_debt THEN tax_at_top_up - consideration ELSE 0 END),
  -- Tax: of a payment (TOP_UP), of use (USAGE), of a debt, and of what was given for nothing.
  (2, '2400', currency,
   CASE
     WHEN is_debt THEN CASE WHEN deed IN ('settlement_of_debt', 'write_off') THEN 0 ELSE tax END
     WHEN deed = 'charge' AND debt_cause IS NOT NULL THEN debt_tax - tax_at_top_up - given_tax
     WHEN deed = 'charge' THEN tax - tax_at_top_up
     WHEN deed = 'settlement_of_debt' THEN - tax_at_top_up - given_tax
     WHEN is_money THEN - tax_at_top_up
     ELSE 0 END),
  -- Money in its own currency, over the position where that is not the account's.
  (3, counterpart, currency,
   CASE WHEN is_money AND paid_currency IS NULL THEN consideration ELSE 0 END),
  (4, '1900', currency,
   CASE WHEN is_money AND paid_currency IS NOT NULL THEN consideration ELSE 0 END),
  (5, counterpart, paid_currency, CASE WHEN is_money THEN paid ELSE 0 END),
  (6, '1900', paid_currency, CASE WHEN is_money THEN -paid ELSE 0 END),
  -- What the customer owes.
  (7, '1300', currency, CASE WHEN is_debt THEN -amount ELSE 0 END),
  (8, '6300', currency, CASE WHEN is_debt AND deed = 'write_off' THEN amount ELSE 0 END),
  -- What was given for nothing: shown when it is used, and where it pays or makes a debt.
  (9, '4900', currency,
   CASE
     WHEN is_debt THEN CASE WHEN is_money THEN given - tax ELSE 0 END
     WHEN is_charge AND (NOT is_paid OR debt_cause IS NOT NULL) THEN given_tax - given
     WHEN deed = 'settlement_of_debt' THEN given_tax - given
     ELSE 0 END),
  (10, CASE WHEN deed = 'expiry' THEN '4800' ELSE '4100.' || service END, currency,
   CASE
     WHEN deed = 'expiry' THEN consideration - tax_at_top_up
     WHEN NOT is_charge THEN 0
     WHEN is_debt THEN amount - tax
     WHEN debt_cause IS NOT NULL THEN amount - debt_tax
     WHEN is_paid THEN consideration - tax
     ELSE amount - given_tax END)
) AS leg (number, ledger_code, currency, amount)
WHERE leg.amount <> 0
UNION ALL
SELECT 'finance', f.site_code, f.account_id, NULL, f.posting_id, f.line_number, f.kind, NULL,
  NULL, NULL, f.ledger_code, f.currency, f.amount_micros, f.accounting_date, f.posted_at
FROM finance_entries f;

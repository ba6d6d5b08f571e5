"""Campaigns, codes and redemptions: counters, budgets and the credit that was given."""

from __future__ import annotations

VOUCHERS: dict[str, str] = {
    "campaign_codes": """
SELECT NULL::bigint, 'campaign ' || c.id, concat_ws(' and ', coalesce(v.codes, 0),
    coalesce(b.codes, 0), 'each for ' || c.uses_per_code),
  concat_ws(' and ', c.codes, c.codes, 'some for ' || coalesce(v.other_uses, c.uses_per_code))
FROM campaigns c
LEFT JOIN (
  SELECT x.id AS campaign_id, count(*) AS codes,
    min(v.most_uses) FILTER (WHERE v.most_uses <> x.uses_per_code) AS other_uses
  FROM voucher_codes v JOIN campaigns x ON x.id = v.campaign_id GROUP BY 1
) v ON v.campaign_id = c.id
LEFT JOIN (
  SELECT campaign_id, sum(codes) AS codes FROM voucher_batches GROUP BY 1
) b ON b.campaign_id = c.id
WHERE EVERYTHING AND (
  c.codes <> coalesce(v.codes, 0) OR c.codes <> coalesce(b.codes, 0) OR v.other_uses IS NOT NULL)
""",
    "batch_codes": """
SELECT NULL::bigint, 'batch ' || b.id, concat_ws(' of campaign ', b.codes, b.campaign_id),
  concat_ws(' of campaign ', count(v.code), max(v.campaign_id))
FROM voucher_batches b LEFT JOIN voucher_codes v ON v.batch_id = b.id
WHERE EVERYTHING
GROUP BY b.id, b.codes, b.campaign_id
HAVING b.codes <> count(v.code) OR bool_or(v.campaign_id <> b.campaign_id)
""",
    "issued_codes": """
SELECT v.account_id, 'code of batch ' || v.batch_id, 'for one account', 'for anybody'
FROM voucher_codes v
JOIN voucher_batches b ON b.id = v.batch_id
JOIN campaigns c ON c.id = v.campaign_id
WHERE EVERYTHING AND v.account_id IS NULL AND b.kind = 'issued'
  OR EVERYTHING AND b.kind = 'imported' AND v.account_id IS NOT NULL
""",
    "campaign_budget": """
SELECT NULL::bigint, 'campaign ' || a.campaign_id || ' ' || a.currency,
  concat_ws(' of ', coalesce(r.granted, 0), coalesce(r.redemptions, 0), p.amount),
  concat_ws(' of ', a.granted_micros, a.redemptions, a.amount_micros)
FROM campaign_amounts a
LEFT JOIN (
  SELECT campaign_id, currency, sum(amount_micros) AS amount FROM campaign_parts GROUP BY 1, 2
) p USING (campaign_id, currency)
LEFT JOIN (
  SELECT campaign_id, currency, sum(amount_micros) AS granted, count(*) AS redemptions
  FROM voucher_redemptions GROUP BY 1, 2
) r USING (campaign_id, currency)
WHERE EVERYTHING AND (a.granted_micros <> coalesce(r.granted, 0)
  OR a.redemptions <> coalesce(r.redemptions, 0) OR a.amount_micros IS DISTINCT FROM p.amount)
""",
    "campaign_parts": """
SELECT NULL::bigint, 'campaign ' || p.campaign_id || ' ' || p.currency || ' part ' || p.position,
  p.place::text, p.position::text
FROM (
  SELECT campaign_id, currency, position,
    row_number() OVER (PARTITION BY campaign_id, currency ORDER BY position) AS place
  FROM campaign_parts
) p
WHERE EVERYTHING AND p.position <> p.place
""",
    "campaign_minimum": """
SELECT NULL::bigint, 'campaign ' || a.campaign_id || ' ' || a.currency,
  'a least top-up only where top-ups earn it', a.minimum_top_up_micros::text
FROM campaign_amounts a JOIN campaigns c ON c.id = a.campaign_id
WHERE EVERYTHING AND (a.minimum_top_up_micros IS NOT NULL) <> (c.trigger = 'first_top_up')
""",
    "code_uses": """
SELECT v.account_id, 'code of batch ' || v.batch_id, coalesce(r.uses, 0)::text, v.uses::text
FROM voucher_codes v
LEFT JOIN (
  SELECT code, count(*) AS uses FROM voucher_redemptions WHERE code IS NOT NULL GROUP BY 1
) r USING (code)
WHERE EVERYTHING AND v.uses <> coalesce(r.uses, 0)
""",
    "redemption": """
SELECT r.account_id, 'redemption ' || r.id,
  concat_ws(' ', 'campaign', coalesce(v.campaign_id, c.id), coalesce(v.account_id, r.account_id),
            a.amount_micros, account.currency, r.place, x.expires_at),
  concat_ws(' ', 'campaign', r.campaign_id, r.account_id, r.amount_micros, r.currency, r.number,
            r.expires_at)
FROM (
  SELECT r.*, row_number() OVER (PARTITION BY campaign_id, account_id ORDER BY number) AS place
  FROM voucher_redemptions r WHERE ACCOUNTS(r)
) r
JOIN accounts account ON account.id = r.account_id
LEFT JOIN campaigns c ON c.id = r.campaign_id
LEFT JOIN campaign_amounts a ON a.campaign_id = r.campaign_id AND a.currency = r.currency
LEFT JOIN voucher_codes v ON v.code = r.code
CROSS JOIN LATERAL (
  SELECT date_trunc('minute', r.redeemed_at + c.validity_days * interval '24 hours'
                    + interval '1 minute')
) x (expires_at)
WHERE (coalesce(v.campaign_id, c.id), coalesce(v.account_id, r.account_id), a.amount_micros,
       account.currency, r.place, x.expires_at, c.trigger)
  IS DISTINCT FROM (r.campaign_id, r.account_id, r.amount_micros, r.currency, r.number::bigint,
                    r.expires_at,
                    CASE WHEN r.code IS NULL THEN 'first_top_up' ELSE 'code' END)
  OR r.code IS NOT NULL AND NOT (r.redeemed_at >= c.redeem_from AND r.redeemed_at < c.redeem_until)
  OR r.number > c.uses_per_account
""",
    # Part by part: the grant and the entry that stand at the part's place in the redemption.
    "redemption_grants": """
SELECT r.account_id, 'redemption ' || r.id || ' part ' || coalesce(p.position, n.place),
  concat_ws(' ', p.amount_micros, p.services::text, r.expires_at, r.code),
  concat_ws(' ', g.kind, g.amount_micros, g.services::text, g.expires_at, g.origin)
FROM voucher_redemptions r
CROSS JOIN LATERAL (
  SELECT p.position, p.amount_micros, p.services FROM campaign_parts p
  WHERE p.campaign_id = r.campaign_id AND p.currency = r.currency
) p
FULL JOIN (
  SELECT r.id, n.place, n.grant_number, n.entry_sequence
  FROM voucher_redemptions r
  CROSS JOIN LATERAL unnest(r.grants, r.entries)
    WITH ORDINALITY AS n (grant_number, entry_sequence, place)
  WHERE ACCOUNTS(r)
) n ON n.id = r.id AND n.place = p.position
LEFT JOIN grants g ON g.account_id = r.account_id AND g.grant_number = n.grant_number
  AND g.entry_sequence = n.entry_sequence
LEFT JOIN entries e ON e.account_id = g.account_id AND e.account_sequence = g.entry_sequence
LEFT JOIN idempotency_keys k ON k.account_id = r.account_id
  AND k.key = concat_ws(':', 'voucher', r.campaign_id, r.account_id, r.number, p.position)
WHERE (r.id IS NULL OR ACCOUNTS(r))
  AND ('voucher', p.amount_micros, p.services, r.expires_at, r.code, 0::bigint, 'voucher',
    n.entry_sequence::text)
  IS DISTINCT FROM (g.kind, g.amount_micros,
    CASE WHEN p.services @> g.services AND g.services @> p.services THEN p.services
      ELSE g.services END,
    g.expires_at, g.origin, g.consideration_micros, e.source, k.answer ->> 'entry_sequence')
""",
    # Credit of a code, or in the name of vouchers, was given by a redemption, and by one alone.
    "voucher_origin": """
SELECT g.account_id, 'grant ' || g.grant_number, '1 redemption', count(r.id)::text
FROM grants g
JOIN entries e ON e.account_id = g.account_id AND e.account_sequence = g.entry_sequence
LEFT JOIN voucher_codes v ON v.code = g.origin
LEFT JOIN voucher_redemptions r ON r.account_id = g.account_id AND g.grant_number = ANY (r.grants)
WHERE ACCOUNTS(g) AND g.kind = 'voucher' AND (v.code IS NOT NULL OR e.actor = 'system:vouchers')
GROUP BY 1, 2 HAVING count(r.id) <> 1
""",
    "redemption_payment": """
SELECT r.account_id, 'redemption ' || r.id, 'the first top-up of the account',
  concat_ws(' ', p.state, p.account_id, p.credit_micros)
FROM voucher_redemptions r
LEFT JOIN payments p ON p.id = r.payment_id
LEFT JOIN campaign_amounts a ON a.campaign_id = r.campaign_id AND a.currency = r.currency
WHERE ACCOUNTS(r) AND r.payment_id IS NOT NULL AND (
  p.state IS DISTINCT FROM 'succeeded' OR p.account_id <> r.account_id
  OR p.credit_micros < a.minimum_top_up_micros
  OR EXISTS (
    SELECT FROM grants g WHERE g.account_id = r.account_id AND g.kind = 'top_up'
      AND g.grant_number < p.grant_number))
""",
    "redemption_key": """
SELECT coalesce(r.account_id, k.account_id), coalesce('redemption ' || r.id, 'key ' || k.key),
  r.id::text, k.redemption
FROM (SELECT * FROM voucher_redemptions r WHERE ACCOUNTS(r) AND code IS NOT NULL) r
FULL JOIN (
  SELECT account_id, key, answer ->> 'redemption' AS redemption FROM idempotency_keys k
  WHERE ACCOUNTS(k) AND operation = 'redeem_code'
) k ON k.account_id = r.account_id AND k.redemption = r.id::text
WHERE r.id IS NULL OR k.account_id IS NULL
""",
}

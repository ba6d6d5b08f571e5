"""What people and jobs did, against the audit log, whose chain proves itself.

Both sides give (account_id, action, subject, actor, statement): which row, who made or decided it,
the terms that were written down with it.
"""

from __future__ import annotations

_TERMS = """concat_ws(' ', x.terms ->> 'name', x.terms ->> 'description', x.terms ->> 'trigger',
    x.terms ->> 'validity_days', x.terms ->> 'code_budget', x.terms ->> 'uses_per_code',
    x.terms ->> 'uses_per_account', x.terms ->> 'is_for_new_accounts',
    x.terms ->> 'is_for_named_accounts', x.terms ->> 'is_for_support',
    x.terms ->> 'blocks_suspects', extract(epoch FROM (x.terms ->> 'redeem_from')::timestamptz),
    extract(epoch FROM (x.terms ->> 'redeem_until')::timestamptz),
    nullif(x.terms -> 'site_codes', 'null'), nullif(x.terms -> 'countries', 'null'))"""

# Money that finance brings in; rates and campaigns, which belong to no account; what staff do for
# customers; holds, and the postings of finance. A code made by itself is for whom it names.
_FACTS = f"""
  SELECT b.account_id, 'record_transfer', b.id::text, b.requested_by, b.amount_micros::text
  FROM bank_transfers b WHERE ACCOUNTS(b)
  UNION ALL
  SELECT b.account_id, b.state || '_transfer', b.id::text, b.decided_by, b.payment_id::text
  FROM bank_transfers b WHERE ACCOUNTS(b) AND b.state <> 'requested'
  UNION ALL
  SELECT NULL, 'request_rate', r.id::text, r.requested_by,
    concat_ws(' ', r.base_currency || '/' || r.quote_currency, trim_scale(r.rate),
              r.margin_basis_points, r.source, extract(epoch FROM r.as_of), r.reason)
  FROM exchange_rates r WHERE EVERYTHING
  UNION ALL
  SELECT NULL, r.state || '_rate', r.id::text, r.decided_by, ''
  FROM exchange_rates r WHERE EVERYTHING AND r.state <> 'requested'
  UNION ALL
  SELECT NULL, 'request_campaign', x.id::text, x.requested_by, {_TERMS}
  FROM (SELECT c.*, to_jsonb(c) AS terms FROM campaigns c) x WHERE EVERYTHING
  UNION ALL
  SELECT NULL, 'decide_campaign', c.id::text, c.decided_by,
    CASE c.state WHEN 'rejected' THEN 'rejected' ELSE 'approved' END
  FROM campaigns c WHERE EVERYTHING AND c.decided_at IS NOT NULL
  UNION ALL
  SELECT NULL, 'end_campaign', c.id::text, c.ended_by, ''
  FROM campaigns c WHERE EVERYTHING AND c.ended_at IS NOT NULL
  UNION ALL
  SELECT NULL, 'offer', a.campaign_id || ' ' || a.currency, '', concat_ws(' ', a.budget_micros,
    a.minimum_top_up_micros, (
      SELECT string_agg(concat_ws(' ', p.amount_micros, to_jsonb(p.services)), ', '
                        ORDER BY p.position)
      FROM campaign_parts p WHERE p.campaign_id = a.campaign_id AND p.currency = a.currency))
  FROM campaign_amounts a WHERE EVERYTHING
  UNION ALL
  SELECT CASE b.codes WHEN 1 THEN
      (SELECT min(v.account_id) FROM voucher_codes v WHERE v.batch_id = b.id) END,
    'add_codes', b.id::text, b.made_by, concat_ws(' ', b.campaign_id, b.codes, b.kind)
  FROM voucher_batches b WHERE EVERYTHING
  UNION ALL
  SELECT r.account_id, 'redeem_voucher', r.id::text, r.redeemed_by, r.campaign_id::text
  FROM voucher_redemptions r WHERE ACCOUNTS(r)
  UNION ALL
  SELECT s.account_id, s.action, s.id::text, s.maker,
    concat_ws(' ', s.amount_micros, s.reason, s.checker)
  FROM staff_acts s WHERE ACCOUNTS(s)
  UNION ALL
  SELECT r.account_id, 'request_approval', r.id::text, r.requested_by,
    concat_ws(' ', r.action, r.amount_micros)
  FROM approval_requests r WHERE ACCOUNTS(r)
  UNION ALL
  SELECT r.account_id, r.state || '_request', r.id::text, r.decided_by, ''
  FROM approval_requests r
  WHERE ACCOUNTS(r) AND r.state IN ('rejected', 'withdrawn', 'expired')
  UNION ALL
  SELECT h.account_id, 'place_hold', h.account_id || ' ' || h.hold_number, h.actor,
    h.amount_micros::text
  FROM holds h WHERE ACCOUNTS(h)
  UNION ALL
  SELECT z.account_id, 'void_hold', z.account_id || ' ' || z.hold_number, z.actor, ''
  FROM hold_resolutions z WHERE ACCOUNTS(z) AND z.outcome = 'voided'
  UNION ALL
  SELECT f.account_id, 'post_journal_entry', p.id::text, f.actor,
    concat_ws(' ', f.kind, f.reference)
  FROM finance_postings p
  LEFT JOIN finance_entries f ON f.posting_id = p.id AND f.line_number = 1
  WHERE EVERYTHING OR ACCOUNTS(f)
"""  # noqa: S608 - constant text

_LOG = f"""
  SELECT l.account_id, l.action, l.details ->> 'transfer', l.actor,
    l.details ->> CASE l.action WHEN 'record_transfer' THEN 'amount_micros' ELSE 'payment' END
  FROM audit_log l
  WHERE ACCOUNTS(l) AND l.action IN ('record_transfer', 'approved_transfer', 'rejected_transfer')
  UNION ALL
  SELECT NULL, l.action, l.details ->> 'rate', l.actor, CASE l.action WHEN 'request_rate' THEN
      concat_ws(' ', l.details #>> '{{to,pair}}',
        trim_scale((l.details #>> '{{to,price}}')::numeric),
        l.details #>> '{{to,margin_basis_points}}', l.details #>> '{{to,source}}',
        extract(epoch FROM (l.details #>> '{{to,as_of}}')::timestamptz), l.details ->> 'reason')
    ELSE '' END
  FROM audit_log l
  WHERE EVERYTHING AND l.action IN ('request_rate', 'approved_rate', 'rejected_rate')
  UNION ALL
  SELECT NULL, 'request_campaign', x.details ->> 'campaign', x.actor, {_TERMS}
  FROM (SELECT l.*, l.details -> 'terms' AS terms FROM audit_log l) x
  WHERE EVERYTHING AND x.action = 'request_campaign'
  UNION ALL
  SELECT NULL, l.action, l.details ->> 'campaign', l.actor,
    CASE l.action WHEN 'decide_campaign' THEN l.details ->> 'to' ELSE '' END
  FROM audit_log l WHERE EVERYTHING AND l.action IN ('decide_campaign', 'end_campaign')
  UNION ALL
  SELECT NULL, 'offer', (l.details ->> 'campaign') || ' ' || (o.value #>> '{{budget,currency}}'),
    '', concat_ws(' ', o.value #>> '{{budget,micros}}', o.value #>> '{{minimum_top_up,micros}}', (
      SELECT string_agg(concat_ws(' ', p.value #>> '{{amount,micros}}',
                                  nullif(p.value -> 'services', 'null')), ', ' ORDER BY p.place)
      FROM jsonb_array_elements(o.value -> 'parts') WITH ORDINALITY p (value, place)))
  FROM audit_log l, jsonb_array_elements(l.details #> '{{terms,offers}}') o
  WHERE EVERYTHING AND l.action = 'request_campaign'
  UNION ALL
  SELECT l.account_id, l.action, l.details ->> 'batch', l.actor,
    concat_ws(' ', l.details ->> 'campaign', l.details ->> 'codes', l.details ->> 'kind')
  FROM audit_log l WHERE EVERYTHING AND l.action = 'add_codes'
  UNION ALL
  SELECT l.account_id, l.action, l.details ->> 'redemption', l.actor, l.details ->> 'campaign'
  FROM audit_log l WHERE ACCOUNTS(l) AND l.action = 'redeem_voucher'
  UNION ALL
  SELECT l.account_id, l.action, l.details ->> 'act', l.actor,
    concat_ws(' ', l.details ->> 'amount_micros', l.details ->> 'reason',
              l.details ->> 'approved_by')
  FROM audit_log l
  WHERE ACCOUNTS(l) AND l.details ? 'act' AND l.action IN ('give_goodwill', 'reverse_entry',
    'apply_code', 'issue_voucher', 'refund_payment')
  UNION ALL
  SELECT l.account_id, l.action, l.details ->> 'request', l.actor,
    CASE l.action WHEN 'request_approval'
      THEN concat_ws(' ', l.details ->> 'wanted', l.details ->> 'amount_micros') ELSE '' END
  FROM audit_log l
  WHERE ACCOUNTS(l) AND l.action IN ('request_approval', 'rejected_request', 'withdrawn_request',
    'expired_request')
  UNION ALL
  SELECT l.account_id, l.action, l.account_id || ' ' || (l.details ->> 'hold_number'), l.actor,
    coalesce(l.details ->> 'amount_micros', '')
  FROM audit_log l
  WHERE ACCOUNTS(l) AND l.action IN ('place_hold', 'void_hold')
    AND l.details ->> 'hold_number' IS NOT NULL
  UNION ALL
  SELECT l.account_id, l.action, l.details ->> 'posting', l.actor,
    concat_ws(' ', l.details ->> 'kind', l.details ->> 'reference')
  FROM audit_log l WHERE (EVERYTHING OR ACCOUNTS(l)) AND l.action = 'post_journal_entry'
"""  # noqa: S608 - constant text

AUDIT: dict[str, str] = {
    "audit_log": f"""
SELECT coalesce(f.account_id, l.account_id)::bigint,
  concat_ws(' ', coalesce(f.action, l.action), coalesce(f.subject, l.subject)),
  concat_ws(' ', 'by', l.actor, l.statement, l.account_id),
  concat_ws(' ', 'by', f.actor, f.statement, f.account_id)
FROM ({_FACTS}) f (account_id, action, subject, actor, statement)
FULL JOIN ({_LOG}) l (account_id, action, subject, actor, statement)
  ON l.action = f.action AND l.subject = f.subject
WHERE (f.account_id, f.actor, coalesce(f.statement, '')) IS DISTINCT FROM
  (l.account_id, l.actor, coalesce(l.statement, ''))
""",  # noqa: S608 - constant text
}

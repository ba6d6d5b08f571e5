"""Rates of exchange, and the prices that were quoted by them."""

from __future__ import annotations

from iso4217 import Currency

from domain.money import MICROS_PER_UNIT, currency_exponent, known_currency

_COINS = ", ".join(
    f"('{currency.code}', {MICROS_PER_UNIT // 10 ** currency_exponent(currency.code)})"
    for currency in Currency
    if known_currency(currency.code) and 10 ** currency_exponent(currency.code) <= MICROS_PER_UNIT
)

RATES: dict[str, str] = {
    # The rate less the margin, rounded down; what is paid for the credit by it, rounded up.
    "quote": f"""
SELECT q.account_id, 'quote ' || q.id,
  concat_ws(' ', x.pay, r.base_currency, 'for', c.currency, 'at', x.effective, 'until',
            q.made_at + interval '15 minutes'),
  concat_ws(' ', q.pay_micros, q.pay_currency, 'for', q.credit_currency, 'at', q.effective_rate,
            'until', q.expires_at)
FROM exchange_quotes q
JOIN accounts c ON c.id = q.account_id
JOIN exchange_rates r ON r.id = q.rate_id
LEFT JOIN (VALUES {_COINS}) coins (currency, coin) ON coins.currency = q.pay_currency
CROSS JOIN LATERAL (
  SELECT trunc(r.rate * (10000 - r.margin_basis_points) * 0.0001, 10) AS effective,
    div(q.credit_micros * 1e10 + q.effective_rate * 1e10 * coins.coin - 1,
        q.effective_rate * 1e10 * coins.coin) * coins.coin AS pay
) x
WHERE ACCOUNTS(q) AND (
  (r.base_currency, r.quote_currency, c.currency, x.effective, x.pay, 'approved',
   q.made_at + interval '15 minutes')
  IS DISTINCT FROM (q.pay_currency, q.credit_currency, q.credit_currency, q.effective_rate,
                    q.pay_micros::numeric, r.state, q.expires_at)
  OR r.decided_at > q.made_at)
""",  # noqa: S608 - constant text
}

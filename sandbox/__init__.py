"""Local sandboxes of VNPay, Stripe and PayPal that speak their real protocols with test money.

They import nothing of the portal, so that a mistake in one is not hidden by the same in the other.
"""

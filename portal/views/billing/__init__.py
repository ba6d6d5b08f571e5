"""The parts of the Billing page, one a tab."""

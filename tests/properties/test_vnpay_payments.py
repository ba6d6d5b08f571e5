"""Payments by VNPay in any order, against the model."""

from __future__ import annotations

import logging

import pytest

from tests.properties.payment_machine import TIMEOUT_SECONDS, run_histories

pytestmark = pytest.mark.long


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_payments_do_what_the_model_does(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # thousands of histories warn of what is meant to go wrong
    run_histories(database_url, "vnpay")

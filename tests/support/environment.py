"""What the environment of a portal says that is no demo, where a test changes only a part of it."""

from __future__ import annotations

import os

SECRET_KEY = "a-secret-key-of-these-tests-0123456789"
OUTSIDE_DEMO = {
    "DEMO": "0",
    "SECRET_KEY": SECRET_KEY,
    "BASE_URL": "https://billing.example.com",
    "TRUSTED_PROXIES": "none",
}


def bare_environment() -> dict[str, str]:
    """Return what a program of ours needs of this process's environment, and no settings."""
    names = {"PATH", "HOME", "LANG", "ENV_FILE"}
    return {name: value for name, value in os.environ.items() if name in names}

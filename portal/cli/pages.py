"""Commands that print pages of the documentation from the code."""

from __future__ import annotations

import typer

from domain.ledger.chart_page import chart_page
from domain.permissions_page import permissions_page
from portal.cli.shared import commands


@commands.command("permissions")
def permissions() -> None:
    """Print who may do what, as docs/permissions.md has it."""
    typer.echo(permissions_page(), nl=False)


@commands.command("chart-of-accounts")
def chart_of_accounts() -> None:
    """Print the accounts of the journal, as docs/chart-of-accounts.md has them."""
    typer.echo(chart_page(), nl=False)

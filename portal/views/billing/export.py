"""Export Excel and CSV: a form that our own route answers with a file, and its progress."""

from __future__ import annotations

import html
import json
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import streamlit as st

from domain.errors import NotFound
from domain.history.export_jobs import ExportOptions, ExportState
from portal.exports import jobs
from portal.ui import formats, partial_runs, query_params
from portal.ui.branding import BUTTON_STYLE
from portal.ui.i18n import _, current_language

if TYPE_CHECKING:
    from domain.history.export_jobs import Export
    from domain.history.rows import HistoryFilter
    from domain.ledger.balances import AccountSummary
    from portal.shell.page_context import PageContext

_LOOK_EVERY = timedelta(seconds=1)


def draw(
    context: PageContext, account: AccountSummary, filters: HistoryFilter, *, has_rows: bool
) -> None:
    """Draw the buttons, and how far the export is that the address names."""
    st.html(_form(_fields(context, account, filters), has_rows=has_rows))
    job_id = query_params.get_number("export")
    if not job_id:
        return
    export = _find(context, job_id)
    if export is not None and export.state is ExportState.RUNNING:
        _watch(context, job_id)
    else:
        _outcome(export)


def _fields(
    context: PageContext, account: AccountSummary, filters: HistoryFilter
) -> dict[str, str]:
    options = ExportOptions(
        account_id=account.account_id,
        filters=filters,
        file_format="",
        zone=str(context.zone),
        language=current_language(),
    )
    page = {name: st.query_params.get_all(name) for name in st.query_params}
    return {
        "form_token": context.visitor.form_token,
        "options": json.dumps(options.to_json()),
        "page": urlencode(page, doseq=True),
    }


def _form(fields: dict[str, str], *, has_rows: bool) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{html.escape(value)}">'
        for name, value in fields.items()
    )
    off = "" if has_rows else f' disabled title="{html.escape(_("No row matches."))}"'
    style = BUTTON_STYLE if has_rows else f"{BUTTON_STYLE};opacity:.5;cursor:not-allowed"
    buttons = " ".join(
        f'<button type="submit" name="format" value="{name}" style="{style}"{off}>'
        f"{html.escape(words)}</button>"
        for name, words in (("xlsx", _("Export Excel")), ("csv", _("Export CSV")))
    )
    return f'<form method="post" action="/exports/history" target="_self">{hidden}{buttons}</form>'


# ── Progress ───────────────────────────────────────────────────────────────────────────────────
def _find(context: PageContext, job_id: int) -> Export | None:
    try:
        return jobs.find(context.visitor.actor, job_id)
    except NotFound:
        return None


@partial_runs.fragment(run_every=_LOOK_EVERY)
def _watch(context: PageContext, job_id: int) -> None:
    """Show how far the file is, and have the page drawn anew once it is done."""
    export = _find(context, job_id)
    if export is None or export.state is not ExportState.RUNNING:
        st.rerun()
    if export.rows_total:
        words = _("Writing the file: {done} of {total} rows").format(
            done=formats.number(export.rows_written), total=formats.number(export.rows_total)
        )
        st.progress(min(100, 100 * export.rows_written // export.rows_total), text=words)
    else:
        st.progress(0, text=_("Writing the file: counting rows"))


def _outcome(export: Export | None) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if export is None:
            st.info(_("This file is no longer available. Export it again."))
        elif export.state is ExportState.FAILED:
            st.error(_("The export failed. Try again."))
        else:
            words = html.escape(_("Download file"))
            link = f'<a href="/exports/file?id={export.job_id}" target="_self">{words}</a>'
            st.html(f"{html.escape(_('The file is ready.'))} {link}")
        st.button(_("Close"), on_click=query_params.remove, args=("export",))

"""A campaign's codes: made, brought in, taken away as files, and revoked."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from typing import TYPE_CHECKING

import openpyxl
import pyarrow as pa
import streamlit as st

from domain.errors import BillingError, InvalidInput
from domain.formulas import CsvWriter
from domain.permissions import allows
from domain.uploads import CODES, drop_upload
from domain.validation import MAX_NAME_LENGTH, MAX_REASON_LENGTH, is_whole_number
from domain.vouchers import (
    MAX_CODES_PER_BATCH,
    codes_of_batch,
    count_codes,
    count_revocable,
    generate_codes,
    import_codes,
    list_batches,
    make_codes_for,
    read_code,
    revoke_codes,
)
from portal.exports.spreadsheets import Column, workbook_content
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import checked, flash, formats, forms, submit_once
from portal.ui.download_link import download_links
from portal.ui.formats import plain
from portal.ui.i18n import _
from portal.ui.labels import campaigns as campaign_labels
from portal.ui.upload import handed_in, upload_field
from portal.views.campaigns import OUTCOME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from domain.actors import Actor
    from domain.vouchers import Batch, CampaignView, Revocable
    from portal.shell.page_context import PageContext

_MAX_UNPACKED_BYTES = 64 * 1024 * 1024
_MAX_CODE_LENGTH = 40
_MAX_LIST_LENGTH = 200_000
_ONCE = "codes_once"
_FORM = "codes"
_ALL, _SINGLE, _BATCH = "all", "single", "batch-"


def draw(context: PageContext, campaign: CampaignView) -> None:
    """Draw the batches of codes and, for finance, what can be done with them."""
    st.subheader(_("Codes"))
    counted = database.read_snapshot(count_codes, campaign_id=campaign.campaign_id)
    text = _("{made} created, {used} used, {revoked} revoked.")
    st.caption(text.format(**{name: formats.number(each) for name, each in counted.items()}))
    batches = database.read_snapshot(
        list_batches, campaign_id=campaign.campaign_id, actor=context.visitor.actor
    )
    is_finance = allows(context.visitor.actor, "make_codes")
    if batches:
        _table(context, batches)
        if is_finance:
            _download(batches)
    if not is_finance:
        return
    if campaign.state == "approved" and campaign.terms.is_for_named_accounts:
        _name_accounts(context, campaign.campaign_id)
    elif campaign.state == "approved":
        _generate(context, campaign.campaign_id)
        _import_codes(context, campaign.campaign_id)
    if counted["made"]:
        _revoke(context, campaign, batches)


def _table(context: PageContext, batches: Sequence[Batch]) -> None:
    name = naming(context, {each.made_by for each in batches})
    table = pa.table(
        {
            _("Batch"): [str(each.batch_id) for each in batches],
            _("Origin"): [campaign_labels.kind(each.kind) for each in batches],
            _("Codes"): [formats.number(each.codes) for each in batches],
            _("Created by"): [name(each.made_by) for each in batches],
            _("Created"): [context.date_time(each.made_at) for each in batches],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="batches",
        column_config={_("Codes"): st.column_config.TextColumn(alignment="right")},
    )


# ── Taking them away ──────────────────────────────────────────────────────────────────────────
def _download(batches: Sequence[Batch]) -> None:
    numbers = [each.batch_id for each in batches]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        batch = checked.selectbox(_("Batch"), numbers, key="batch", width=120)
        download_links(
            {
                _("Download as Excel"): "/files/codes.xlsx",
                _("Download as CSV"): "/files/codes.csv",
            },
            {"batch": batch},
        )
    st.caption(_("The files show full codes. Downloads are recorded in the audit log."))


def make(actor: Actor, batch_id: int, write: Callable[[Iterable[str]], bytes]) -> bytes:
    """Return a file of a batch's codes, in full. Raises NotFound and NotAuthorised."""
    return write(database.transaction(codes_of_batch, batch_id=batch_id, actor=actor))


def csv_file(found: Iterable[str]) -> bytes:
    """Return codes as CSV, with the mark that Excel needs."""
    written = io.StringIO()
    writer = CsvWriter(written)
    writer.writerow([_("Code")])
    writer.writerows([code] for code in found)
    return written.getvalue().encode("utf-8-sig")


def workbook(found: Iterable[str]) -> bytes:
    """Return codes as a workbook."""
    codes = list(found)
    return workbook_content(
        name=_("Codes"),
        columns=[Column(_("Code"), 16)],
        rows=([code] for code in codes),
        row_count=len(codes),
        heading=[],
    )


# ── Making and bringing in ────────────────────────────────────────────────────────────────────
def _key(name: str) -> str:
    return forms.key(_FORM, name)


def _generate(context: PageContext, campaign_id: int) -> None:
    with st.form(_key("generate")):
        count = st.number_input(
            _("Number of codes"), 1, MAX_CODES_PER_BATCH, 100, key=_key("generate_count"), width=240
        )
        is_sent = st.form_submit_button(_("Generate codes"), type="primary")
    if is_sent:
        _do(
            lambda key: database.transaction(
                generate_codes,
                campaign_id=campaign_id,
                count=int(count),
                actor=context.visitor.actor,
                idempotency_key=key,
            ),
            request=f"{campaign_id}|{count}",
            waiting=_("Generating {count} codes").format(count=formats.number(int(count))),
            message=_("{count} codes generated.").format(count=formats.number(int(count))),
        )


def _name_accounts(context: PageContext, campaign_id: int) -> None:
    with st.form(_key("name_accounts")):
        typed = st.text_area(
            _("Account numbers, one per line"),
            max_chars=_MAX_LIST_LENGTH,
            key=_key("named_accounts"),
        )
        st.caption(_("Each account gets its own code, shown in its Voucher list."))
        is_sent = st.form_submit_button(_("Generate codes for accounts"), type="primary")
    if is_sent:
        _do(
            lambda key: database.transaction(
                make_codes_for,
                campaign_id=campaign_id,
                accounts=_numbers(typed),
                actor=context.visitor.actor,
                idempotency_key=key,
            ),
            request=f"{campaign_id}|{typed}",
            waiting=_("Generating codes"),
            message=_("Codes generated. Each is shown in the account's Voucher list."),
        )


def _numbers(typed: str) -> list[int]:
    campaign_labels = typed.replace(",", " ").split()
    for line, each in enumerate(campaign_labels, start=1):
        if not is_whole_number(each):
            raise InvalidInput("accounts", "not_a_number", line=line)
    return [int(each) for each in campaign_labels]


def _import_codes(context: PageContext, campaign_id: int) -> None:
    with st.form(_key("import_codes")):
        key = upload_field(
            context,
            _("File with codes to import (text, CSV or Excel, one code per line)"),
            purpose=CODES,
            name=_key("codes_file"),
            extensions=["txt", "csv", "xlsx"],
        )
        is_sent = st.form_submit_button(_("Import codes"))
    if not is_sent:
        return
    file = handed_in(context, CODES, key)
    if file is None:
        st.error(_("Choose the file first."), icon=":material/error:")
        return

    def import_file(idempotency_key: str) -> None:
        database.transaction(
            import_codes,
            campaign_id=campaign_id,
            typed=_typed(file.content),
            actor=context.visitor.actor,
            idempotency_key=idempotency_key,
        )
        database.transaction(drop_upload, key=key, actor=context.visitor.actor)

    _do(
        import_file,
        request=f"{campaign_id}|{hashlib.sha256(file.content).hexdigest()}",
        waiting=_("Importing codes"),
        message=_("Codes imported."),
    )


def _typed(content: bytes) -> list[str]:
    """Return what stands in a file's first column, without a title and without empty lines."""
    try:
        lines = _cells(content) if content.startswith(b"PK") else _lines(content)
    except InvalidInput:
        raise
    except Exception as error:
        # Whatever a library says of a file that is none: the person needs to know only that.
        raise InvalidInput("codes", "not_readable") from error
    found = [line.strip() for line in lines if line.strip()]
    has_title = found[:1] != [] and not read_code(found[0]) and len(found) > 1
    return found[1:] if has_title else found


def _lines(content: bytes) -> list[str]:
    text = content.decode("utf-8-sig")
    return [row[0] for row in csv.reader(io.StringIO(text)) if row]


def _cells(content: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        # A part never unpacks to more than it says.
        if sum(part.file_size for part in packed.infolist()) > _MAX_UNPACKED_BYTES:
            raise InvalidInput("codes", "too_large")
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True)
    sheet = book.worksheets[0]
    return [
        str(row[0] or "")
        for row in sheet.iter_rows(max_col=1, max_row=MAX_CODES_PER_BATCH + 2, values_only=True)
    ]


# ── Taking back ───────────────────────────────────────────────────────────────────────────────
def _revoke(context: PageContext, campaign: CampaignView, batches: Sequence[Batch]) -> None:
    with st.expander(_("Revoke codes"), icon=":material/block:"):
        named = {f"{_BATCH}{each.batch_id}": each for each in batches}
        chosen = checked.selectbox(
            _("Codes to revoke"),
            [_ALL, *named, _SINGLE],
            format_func=lambda choice: _scope(campaign, choice, named.get(choice)),
            key="revoke_scope",
        )
        if chosen == _SINGLE:
            _revoke_single(context, campaign)
        else:
            batch = named.get(chosen)
            scope = _scope(campaign, chosen, batch)
            _revoke_many(context, campaign, scope, None if batch is None else batch.batch_id)


def _scope(campaign: CampaignView, choice: str, batch: Batch | None) -> str:
    if choice == _SINGLE:
        return _("Single code")
    if batch is None:
        return _("All codes of {campaign}").format(campaign=campaign.terms.name)
    text = _("Batch {number} ({count} codes, {kind})")
    return text.format(
        number=batch.batch_id,
        count=formats.number(batch.codes),
        kind=campaign_labels.kind(batch.kind),
    )


def _revoke_single(context: PageContext, campaign: CampaignView) -> None:
    with st.form("revoke_single", border=False):
        typed = st.text_input(_("Code"), max_chars=_MAX_CODE_LENGTH, key="revoke_code")
        reason = st.text_input(_("Reason"), max_chars=MAX_REASON_LENGTH, key="revoke_reason_single")
        is_sent = st.form_submit_button(_("Revoke code"))
    if not is_sent:
        return
    code = read_code(typed)
    if not code:
        st.error(
            _("The code is not valid. Enter its 10 letters and digits."), icon=":material/error:"
        )
        return
    found = _count(context, campaign, code=code)
    if not found.total:
        st.error(_("Code not found in this campaign."), icon=":material/error:")
    elif not found.count:
        st.error(_nothing_left(context, found), icon=":material/error:")
    else:
        message = _("Code ending in {end} revoked. Credit already redeemed stays.")
        _execute(context, campaign, reason, message.format(end=code[-4:]), found, code=code)


def _revoke_many(
    context: PageContext, campaign: CampaignView, scope: str, batch_id: int | None
) -> None:
    found = _count(context, campaign, batch_id=batch_id)
    text = _("{count} of {total} codes can be revoked: {used} are used up, {revoked} revoked.")
    counts = {"count": found.count, "total": found.total, "used": found.used}
    shown = {name: formats.number(each) for name, each in counts.items()}
    st.markdown(text.format(**shown, revoked=formats.number(found.revoked)))
    with st.form(f"revoke-{batch_id or _ALL}", border=False):
        reason = st.text_input(
            _("Reason"), max_chars=MAX_REASON_LENGTH, key=f"revoke_reason-{batch_id or _ALL}"
        )
        confirmed = st.text_input(
            _("To confirm, enter the number of codes or the campaign name"),
            max_chars=MAX_NAME_LENGTH,
            key=f"revoke_confirmed-{batch_id or _ALL}",
        )
        is_sent = st.form_submit_button(_("Revoke codes"))
    if not is_sent:
        return
    if not found.count:
        st.error(_nothing_left(context, found), icon=":material/error:")
    elif not _is_confirmed(confirmed, found.count, campaign.terms.name):
        text = _("Nothing was revoked. To confirm, enter {count} or {campaign}.")
        shown_text = text.format(count=formats.number(found.count), campaign=campaign.terms.name)
        st.error(plain(shown_text), icon=":material/error:")
    else:
        text = _("Revoked: {count} ({scope}). Credit already redeemed stays.")
        message = text.format(count=formats.number(found.count), scope=scope)
        _execute(context, campaign, reason, message, found, batch_id=batch_id)


def _is_confirmed(typed: str, count: int, name: str) -> bool:
    tidy = " ".join(typed.split())
    return tidy.casefold() == name.casefold() or tidy in {str(count), formats.number(count)}


def _count(
    context: PageContext,
    campaign: CampaignView,
    *,
    code: str | None = None,
    batch_id: int | None = None,
) -> Revocable:
    return database.read_snapshot(
        count_revocable,
        campaign_id=campaign.campaign_id,
        code=code,
        batch_id=batch_id,
        actor=context.visitor.actor,
    )


def _nothing_left(context: PageContext, found: Revocable) -> str:
    if found.last_revoked_at is None:
        return _("Nothing was changed: no codes are left to revoke.")
    text = _("Nothing was changed: already revoked by {name}, {when}, or used up.")
    name = naming(context, [found.last_revoked_by], in_sentence=True)(found.last_revoked_by)
    return plain(text.format(name=name, when=context.date_time(found.last_revoked_at)))


def _execute(
    context: PageContext,
    campaign: CampaignView,
    reason: str,
    message: str,
    found: Revocable,
    *,
    code: str | None = None,
    batch_id: int | None = None,
) -> None:
    try:
        database.transaction(
            revoke_codes,
            campaign_id=campaign.campaign_id,
            reason=reason,
            actor=context.visitor.actor,
            code=code,
            batch_id=batch_id,
            expected_count=found.count,
        )
    except BillingError as error:
        st.error(campaign_labels.refusal(error), icon=":material/error:")
    else:
        flash.leave(OUTCOME, message)


def _do(make: Callable[[str], object], *, request: str, waiting: str, message: str) -> None:
    try:
        with st.spinner(plain(waiting), show_time=True):
            make(submit_once.key_for(_ONCE, request))
    except BillingError as error:
        st.error(plain(campaign_labels.refusal(error)), icon=":material/error:")
    else:
        submit_once.forget(_ONCE)
        forms.empty(_FORM)
        flash.leave(OUTCOME, message)

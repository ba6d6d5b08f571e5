"""An upload field of a form: the browser sends the file at once, before the form is sent.

Streamlit's own uploader keeps files in the memory of one process, for anyone who knows an address.
"""

from __future__ import annotations

import html
import json
import uuid
from typing import TYPE_CHECKING

import streamlit as st

from domain.uploads import MAX_BYTES, MEBIBYTE, find_upload, name_of_upload
from portal.runtime import database
from portal.ui.branding import BUTTON_STYLE
from portal.ui.i18n import N_, _, current_language

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domain.uploads import UploadedFile
    from portal.shell.page_context import PageContext

PATH = "/uploads"
TOKEN_HEADER = "X-Form-Token"  # noqa: S105 - a header's name
FAULTS = {
    "empty": N_("The file is empty. Choose another file."),
    "too_large": N_("The file is larger than {maximum} MB. Choose a smaller file."),
    "too_many": N_("Too many uploaded files are waiting. Submit their forms first, or wait a day."),
    "control_characters": N_("The file name has invalid characters. Rename the file."),
}
_STYLE = "display:flex;flex-direction:column;gap:.25rem;font-size:.875rem"
_SCRIPT = """
(() => {
  const config = %(config)s;
  const field = document.getElementById(config.id);
  const status = document.getElementById(config.id + "-status");
  field.onchange = async () => {
    const file = field.files[0];
    if (!file) return;
    if (file.size > config.most) { status.textContent = config.tooLarge; field.value = ""; return; }
    status.textContent = config.under_way;
    try {
      const answer = await fetch(config.path + encodeURIComponent(file.name),
        { method: "PUT", body: file, headers: { [config.header]: config.token } });
      status.textContent = answer.ok ? config.done.replace("{name}", file.name)
        : (await answer.text() || config.failed);
    } catch { status.textContent = config.failed; }
  };
})();
"""


def upload_field(
    context: PageContext, label: str, *, purpose: str, name: str, extensions: Sequence[str]
) -> uuid.UUID:
    """Draw the field; return the key under which `handed_in` finds its file.

    `name` names the field in the session's state: another name is another, empty field.
    """
    key: uuid.UUID = st.session_state.setdefault(name, uuid.uuid4())
    actor = context.visitor.actor
    known = database.read_one(name_of_upload, purpose=purpose, key=key, actor=actor)
    done = _("{name} uploaded.")
    too_large = FAULTS["too_large"]
    field_id = f"upload-{key}"
    message = {
        "id": field_id,
        "path": f"{PATH}/{purpose}/{key}?lang={current_language()}&name=",
        "most": MAX_BYTES,
        "header": TOKEN_HEADER,
        "token": context.visitor.form_token,
        "tooLarge": _(too_large).format(maximum=MAX_BYTES // MEBIBYTE),
        "under_way": _("Uploading…"),
        "done": done,
        "failed": _("The upload failed. Choose the file again."),
    }
    accepted = ",".join(f".{each}" for each in extensions)
    # No character of a text can end the script: json quotes it, and "<" is escaped.
    config = json.dumps(message).replace("<", "\\u003c")
    status = "" if known is None else done.format(name=known)
    st.html(
        f'<div style="{_STYLE}"><label for="{field_id}">{html.escape(label)}</label>'
        f'<input type="file" id="{field_id}" accept="{accepted}"'
        f' aria-describedby="{field_id}-status" style="{BUTTON_STYLE}">'
        f'<span id="{field_id}-status" role="status">{html.escape(status)}</span></div>'
        f"<script>{_SCRIPT % {'config': config}}</script>",
        unsafe_allow_javascript=True,
    )
    return key


def handed_in(context: PageContext, purpose: str, key: uuid.UUID) -> UploadedFile | None:
    """Return the file that was handed in by the field, or None."""
    return database.read_one(find_upload, purpose=purpose, key=key, actor=context.visitor.actor)

"""The smallest possible page: what a rerun costs before the portal adds anything."""

from __future__ import annotations

import streamlit as st

st.title("A page")
st.button("Again")

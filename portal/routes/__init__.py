"""The portal's own routes: what Streamlit's pages cannot do, such as setting a cookie."""

"""The portal's own routes: for what Streamlit's pages cannot do, such as setting a cookie."""

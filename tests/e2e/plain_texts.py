"""A page with every text that Markdown could take for something else, wherever it can stand."""

from __future__ import annotations

import streamlit as st

from portal.ui.formats import plain

TEXTS = (
    "www.example.com",
    "WWW.Example.com/a?b=c",
    "See https://example.com/a_b?c=d&e=f",
    "HTTP://x.example ftp://x.example/y https:",
    "ann@example.com",
    "a.b+c@x-y.co.uk mailto:ann@example.com",
    "<https://x.example> <a@b.co>",
    "[a](https://x.example) ![i](https://x.example/i.png) [^1]",
    "[a]: https://x.example",
    "a@-> b @{foreground=red}",
    "a -> b <- c <-> d -- e >= f <= g ~= h",
    "->",
    "1. one",
    "1) one",
    "- one",
    "+ one",
    "* one",
    "# one",
    "> one",
    "1.",
    "-",
    "---",
    "- - -",
    "===",
    "***",
    "``` x",
    "    four",
    ":material/home: :material_home:",
    ":streamlit: :smile: :+1: :100:",
    ":red[x] :color[y]{foreground=red} :help[z]",
    "::note[x]{a=b}",
    ":::note",
    "**a** __b__ _c_ ~~d~~ `e`",
    "$x^2$ $$y$$ WELCOME$20 and $30",
    "AT&amp;T &lt;b&gt; &#65;",
    "<b>x</b> <!-- y -->",
    "| a | b |",
    "a\\*b \\",
    "line one\n\n- line two\r\n# three\u2028four\x0bfive",
    "Trần Thị Lan · 500.000\N{NO-BREAK SPACE}₫ 日本語の名前",
    "(x) {x} [x [ ] 100%. a  b ! 1:17:03 x:y",
    "+$5.00",
)


def draw() -> None:
    """Draw each text as the pages do: in a line, a caption, a notice, a list and a label."""
    for number, text in enumerate(TEXTS):
        words = plain(text)
        with st.container(key=f"text-{number}"):
            st.markdown(words)
            st.caption(words)
            st.info(words)
            st.write(f"**{words}**  \nthen")
            st.markdown(f"- one: **{words}**\n- two: **{words}**")
            st.button(words, key=f"button-{number}")


if __name__ == "__main__":
    draw()

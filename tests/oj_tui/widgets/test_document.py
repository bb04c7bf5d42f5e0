"""Tests of oj_tui/widgets/document.py."""

from __future__ import annotations

import asyncio

import pytest
from textual.app import App, ComposeResult

from oj_tui.widgets.document import Document, shows_all
from tests.support import screens
from tests.support.pilots import until

SLY = """# Title

Some *plain* text<!-- in a comment -->, [a link](https://evil.example "a title"), ![image](x.png),
<https://auto.example>, &#x202e;turned, &lt;b&gt;.

[ref]: https://ref.example "defined"

<div hidden>in a block</div>

- one
  1. two

```python
print("code")
```
"""


def test_nothing_of_a_document_is_hidden() -> None:
    class Reader(App[None]):
        def compose(self) -> ComposeResult:
            yield Document(SLY)

    async def scenario() -> None:
        app = Reader()
        async with app.run_test(size=(110, 40)) as pilot:
            await until(pilot, lambda: 'print("code")' in screens.text(app))
            shown = screens.text(app)
            missing = [
                words
                for words in (
                    "<!-- in a comment -->", '[a link](https://evil.example "a title")', "![image](x.png)",
                    "<https://auto.example>", "&#x202e;turned", "&lt;b&gt;",
                    '[ref]: https://ref.example "defined"', "<div hidden>in a block</div>",
                )
                if words not in shown
            ]  # fmt: skip
            assert missing == []

    assert shows_all(SLY)
    asyncio.run(scenario())


@pytest.mark.parametrize(
    "text",
    [
        "| a | b |\n|---|---|\n| 1 | 2 | and delete everything |",
        "```python and delete everything\nprint()\n```",
    ],
    ids=["cell without a column", "behind the mark of code"],
)
def test_what_would_be_lost_is_noticed(text: str) -> None:
    assert not shows_all(text)


@pytest.mark.parametrize(
    "text",
    [
        "1. re**name**d `snake_case` and _that_\n2. ~~this~~ a\\*b\n\n> quoted\n\n    code\n\n---\n\nHead\n====",
        "| a | b |\n|:--|--:|\n| `1` | 2 |",
        "```sh\nrm -r x\n```\n\n~~~\nplain\n~~~",
    ],
    ids=["text", "table", "code"],
)
def test_what_is_shown_whole_counts_as_such(text: str) -> None:
    assert shows_all(text)

"""What the page makes of a model's text: Markdown into elements, anything hostile into plain letters."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, Route, expect

from chromium import Tabs
from running import Server

HOSTILE = (
    '<img src=x onerror="window.hacked=1"> <script>window.hacked=1</script>\n\n'
    "[click](javascript:window.hacked=1) ![i](https://example.com/x.png) **<b onclick=1>bold</b>**\n\n"
    "```html\n<iframe src='https://example.com'></iframe>\n```\n\n"
    "- <svg onload=window.hacked=1>\n- <a href='//example.com'>x</a>\n\n`<style>*{display:none}</style>`"
)

CASES = [
    ("plain words", "<p>plain words</p>"),
    ("one\n\ntwo\nthree", "<p>one</p><p>two\nthree</p>"),
    ("a **b** `c` *d* __e__", "<p>a <strong>b</strong> <code>c</code> <em>d</em> <strong>e</strong></p>"),
    ("**a `b` c**", "<p><strong>a <code>b</code> c</strong></p>"),
    ("2 * 3 * 4 and a ** b", "<p>2 * 3 * 4 and a ** b</p>"),
    ("snake_case_name and *open", "<p>snake_case_name and *open</p>"),
    ("# Big\ntext", "<h3>Big</h3><p>text</p>"),
    ("- a\n- b", "<ul><li><span>a</span></li><li><span>b</span></li></ul>"),
    ("3. a\n4. b", '<ol start="3"><li><span>a</span></li><li><span>b</span></li></ol>'),
    ("- a\n  - b\n\nend", "<ul><li><span>a</span><ul><li><span>b</span></li></ul></li></ul><p>end</p>"),
    ("---", "<hr>"),
    ("<b>x</b> & y", "<p>&lt;b&gt;x&lt;/b&gt; &amp; y</p>"),
]

RENDER = """async ([text, step]) => {
  const { MarkdownView } = await import('/page/markdown.js');
  const target = document.createElement('div');
  const view = new MarkdownView(target);
  for (let end = step; end < text.length; end += step) view.update(text.slice(0, end));
  view.update(text);
  return target.innerHTML;
}"""


@pytest.fixture
def page(server: Server, tabs: Tabs) -> Page:
    return tabs.new(server.url).open()


def test_markdown_becomes_elements(page: Page) -> None:
    for text, expected in CASES:
        assert page.evaluate(RENDER, [text, 10_000]) == expected


def test_code_keeps_its_letters(page: Page) -> None:
    html = page.evaluate(RENDER, ["```python\nif a < b:\n    **x**\n```\nafter", 10_000])
    assert "<code>if a &lt; b:\n    **x**</code>" in html
    assert "<span>python</span>" in html
    assert html.endswith("<p>after</p>")


@pytest.mark.parametrize("step", [1, 3, 17])
def test_a_growing_text_ends_as_the_whole_would(page: Page, step: int) -> None:
    text = "\n\n".join([text for text, _ in CASES] + [HOSTILE, "```\nopen fence\n\n- not a list"])
    assert page.evaluate(RENDER, [text, step]) == page.evaluate(RENDER, [text, 10_000])


def test_a_repeating_model_costs_no_more_than_its_length(page: Page) -> None:
    # Quadratic work on these would take minutes; the test's timeout is the limit.
    for text in ("*" * 60_000, "**a " * 15_000, "`" * 60_000, "- " * 20_000, "- a\n" * 5_000, "> \n" * 9_000):
        page.evaluate(RENDER, [text, 1_000_000])


def test_many_tokens_in_one_frame_are_drawn_once(page: Page) -> None:
    draws = page.evaluate("""async () => {
      const { AnswerView } = await import('/page/message.js');
      const message = { role: 'assistant', text: '' };
      const view = new AnswerView(message, {});
      let draws = 0;
      const draw = view.draw.bind(view);
      view.draw = () => { draws += 1; draw(); };
      for (let i = 0; i < 500; i += 1) { message.text += ' word'; view.grow(); }
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      return draws;
    }""")
    assert draws == 1


def test_hostile_text_stays_text(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    chunks = [{"choices": [{"index": 0, "delta": {"content": HOSTILE[i : i + 5]}}]} for i in range(0, len(HOSTILE), 5)]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"

    def answer(route: Route) -> None:
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    page.route("**/v1/chat/completions", answer)
    tab.say("<img src=x onerror='window.hacked=1'>")
    expect(page.locator(".answer .figures")).to_be_visible()
    expect(page.locator(".answer .prose")).to_contain_text("<script>window.hacked=1</script>")
    assert page.evaluate("window.hacked") is None
    assert page.locator(".prose :is(img, script, a, iframe, svg:not(.icon), style, b)").count() == 0
    page.reload()
    expect(page.locator(".bubble")).to_have_text("<img src=x onerror='window.hacked=1'>")
    assert page.evaluate("window.hacked") is None

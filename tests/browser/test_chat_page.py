"""The chat page in a real Chromium against a real server: what a person does with it, from first sight to last."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from chromium import Tab, Tabs
from running import Server

NOTE_BUTTON = """() => {
    window.noted = {names: [], streamed: false};
    new MutationObserver(() => {
        const name = document.querySelector("#send").getAttribute("aria-label");
        if (noted.names.at(-1) !== name) noted.names.push(name);
        noted.streamed ||= document.querySelector(".answer.streaming .prose p") !== null;
    }).observe(document.body, {subtree: true, childList: true, attributeFilter: ["aria-label", "class"]});
}"""
"""Notes what the page shows for a moment only: an answer can come and end between two looks from outside."""


def test_opens_clean_and_says_what_it_is(server: Server, tabs: Tabs) -> None:
    page = tabs.new(server.url).open()
    expect(page.get_by_role("heading", name="Your model is ready.")).to_be_visible()
    expect(page.locator("#model")).to_have_value(server.model)
    expect(page.locator("#fleet-text")).to_contain_text("1 worker ready")
    expect(page.locator("#prompt")).to_be_focused()
    expect(page.locator("#send")).to_be_disabled()


def test_is_served_under_a_strict_policy(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    response = tab.page.goto(tab.url)
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "'unsafe" not in policy
    assert re.search(r"default-src '(self|none)'", policy)
    assert "frame-ancestors 'none'" in policy


def test_streams_an_answer_with_its_figures(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    page.evaluate(NOTE_BUTTON)
    tab.say("Tell me about the harbour.")
    expect(page.locator(".bubble")).to_have_text("Tell me about the harbour.")
    figures = page.locator(".answer .figures")
    expect(figures).to_have_text(re.compile(r"[\d.,]+ tokens/s.* to first token.* in queue", re.DOTALL))
    expect(page.locator("#send")).to_have_accessible_name("Send (Enter)")
    names, streamed = page.evaluate("[noted.names, noted.streamed]")
    assert names == ["Send (Enter)", "Stop (Esc)", "Send (Enter)"]
    assert streamed, "no part of the answer was shown before all of it was there"
    figures.click()
    expect(page.locator(".explained dd").first).to_contain_text("Measured by the server")
    assert len(page.locator(".answer .prose").inner_text()) > 40
    for span in figures.locator("> span").all():
        assert span.get_attribute("title")


def test_escape_stops_and_keeps_what_came(slow_server: Server, tabs: Tabs) -> None:
    tab = tabs.new(slow_server.url)
    page = tab.open()
    tab.say("A long story, please.")
    page.locator(".answer.streaming .prose p").wait_for()
    page.keyboard.press("Escape")
    expect(page.locator(".note")).to_have_text("Stopped.")
    expect(page.locator("#prompt")).to_be_focused()
    assert page.locator(".answer .prose").inner_text()
    expect(page.locator("#fleet-text")).to_have_text("1 worker ready")  # the server stopped working on it too


def test_the_button_stops_too(slow_server: Server, tabs: Tabs) -> None:
    tab = tabs.new(slow_server.url)
    page = tab.open()
    tab.say("Another long story.")
    page.locator(".answer.streaming .prose p").wait_for()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".note")).to_have_text("Stopped.")


def test_answers_again(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    tab.ask("Say something.")
    with page.expect_request("**/v1/chat/completions") as asked:
        page.get_by_role("button", name="Answer again").click()
    assert asked.value.post_data_json["messages"] == [{"role": "user", "content": "Say something."}]
    page.locator(".answer .figures").wait_for()
    expect(page.locator(".answer")).to_have_count(1)


def test_edits_the_last_message_and_sends_it_again(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    tab.ask("First thought")
    first = page.locator(".answer .prose").inner_text()
    tab.ask("Secnd thought")
    page.get_by_role("button", name="Edit and send again").click()
    page.get_by_role("textbox", name="Edit your message").fill("Second thought")
    with page.expect_request("**/v1/chat/completions") as asked:
        page.keyboard.press("Enter")
    said = [(m["role"], m["content"]) for m in asked.value.post_data_json["messages"]]
    assert [role for role, _ in said] == ["user", "assistant", "user"]
    assert said[2][1] == "Second thought"
    assert said[1][1].split() == first.split()
    page.locator(".answer").nth(1).locator(".figures").wait_for()
    expect(page.locator(".bubble")).to_have_text(["First thought", "Second thought"])


def test_a_reload_keeps_the_conversation(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    answer = tab.ask("Remember this.")
    page.reload()
    expect(page.locator(".bubble")).to_have_text("Remember this.")
    assert page.locator(".answer .prose").inner_text() == answer
    expect(page.locator(".answer .figures")).to_contain_text("tokens/s")


def test_a_page_left_in_mid_answer_says_so_when_it_is_back(slow_server: Server, tabs: Tabs) -> None:
    tab = tabs.new(slow_server.url)
    page = tab.open()
    tab.say("A story that is not heard to its end.")
    page.locator(".answer.streaming .prose p").wait_for()
    page.reload()
    expect(page.locator(".note")).to_have_text("The page was left before the end.")
    assert page.locator(".answer .prose").inner_text()
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()


def test_past_conversations_open_and_can_be_forgotten(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    tab.ask("The first talk")
    page.locator("#new-chat").click()
    tab.ask("The second talk")
    past = page.locator("#history li")
    expect(past.locator(".history-open")).to_have_text(["The second talk", "The first talk"])
    page.get_by_role("button", name="The first talk", exact=True).click()
    expect(page.locator(".bubble")).to_have_text("The first talk")
    past.first.hover()
    page.get_by_role("button", name="Delete “The second talk”").click()
    expect(past).to_have_count(1)
    page.get_by_role("button", name="Clear all").click()
    page.get_by_role("button", name="Really clear all?").click()
    expect(past).to_have_count(0)
    expect(page.locator(".welcome")).to_be_visible()
    assert page.evaluate("Object.keys(localStorage).filter((k) => k.startsWith('freehold.chat.')).length") == 0


def test_settings_are_sent_only_when_set(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    with page.expect_request("**/v1/chat/completions") as plain:
        tab.ask("Plain")
    assert set(plain.value.post_data_json) == {"model", "messages", "stream", "stream_options", "temperature"}
    assert plain.value.post_data_json["temperature"] == 0.3  # what the page takes for the starter
    page.get_by_role("button", name="Settings").click()
    for label, value in (("System message", "Be brief."), ("Temperature", "0"), ("Top p", "0.9"), ("Seed", "7")):
        page.get_by_label(label).fill(value)
    page.get_by_label("Longest answer").fill("5")
    page.get_by_role("button", name="Done").click()
    with page.expect_request("**/v1/chat/completions") as asked:
        tab.ask("Set")
    body = asked.value.post_data_json
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0, 0.9, 5, 7)
    expect(page.locator(".note")).to_have_text("Cut at the length limit.")


def test_the_theme_follows_the_system_until_told_otherwise(server: Server, tabs: Tabs) -> None:
    dark = tabs.new(server.url, color_scheme="dark")
    assert _brightness(dark) < 60
    dark.page.get_by_role("button", name="Switch to light").click()
    assert _brightness(dark) > 200
    dark.page.reload()
    assert _brightness(dark, opened=True) > 200
    assert _brightness(tabs.new(server.url, color_scheme="light")) > 200


def _brightness(tab: Tab, opened: bool = False) -> float:
    page = tab.page if opened or tab.page.url != "about:blank" else tab.open()
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    return (red + green + blue) / 3


def test_a_phone_needs_no_sideways_scrolling(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page = tab.open()
    expect(page.locator(".welcome")).to_be_visible()
    _fits(tab)
    tab.ask("A message with averyveryveryveryveryveryveryveryveryveryveryveryverylongword in it")
    _fits(tab)
    page.get_by_role("button", name="Conversations").tap()
    expect(page.locator("#new-chat")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Conversations")).to_be_focused()
    page.get_by_role("button", name="Settings").tap()
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    _fits(tab)


def _fits(tab: Tab) -> None:
    assert tab.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), "the page is wider than the screen"
    assert tab.page.evaluate("document.getElementById('main').scrollWidth <= innerWidth"), "the thread is too wide"


def test_everything_works_from_the_keyboard(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("One line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and another")
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_text("One line\nand another")
    page.locator(".figures").wait_for()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("textbox", name="Edit your message")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Edit and send again")).to_be_focused()
    names = []
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none" or page.evaluate(
            "document.activeElement.id"
        ) in ("prompt", "intent"), "focus is invisible"
        names.append(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.id"))
        if names[-1] == "fleet":
            break
    assert names[:2] == ["Copy answer", "Answer again"]
    assert "prompt" in names
    page.keyboard.press("Enter")
    expect(page.locator("#fleet-card")).to_be_visible()
    expect(page.locator("#fleet-card")).to_contain_text("worker")


def test_the_starter_says_what_it_is_for(server: Server, slow_server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    expect(page.locator(".welcome")).to_contain_text("The starter is for trying the system, not for talking to.")
    other = tabs.new(slow_server.url).open()
    expect(other.get_by_role("heading", name="Your model is ready.")).to_be_visible()
    expect(other.locator(".welcome")).not_to_contain_text("starter")
    expect(other.locator("#intent-toggle")).to_be_hidden()


def test_naming_the_intent_reads_one_message_alone(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    with page.expect_request("**/v1/chat/completions") as first:
        page.locator(".tries button").first.click()
    body = first.value.post_data_json
    instruction = {"role": "system", "content": "Name the intent of the customer's message."}
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert (body["messages"][0], body["temperature"]) == (instruction, 0)
    page.locator(".figures").wait_for()
    expect(page.get_by_role("switch", name="Name the intent")).to_be_checked()
    with page.expect_request("**/v1/chat/completions") as second:
        tab.ask("How do I close my account?")
    assert second.value.post_data_json["messages"] == [
        instruction,
        {"role": "user", "content": "How do I close my account?"},
    ]
    page.get_by_role("switch", name="Name the intent").uncheck()
    with page.expect_request("**/v1/chat/completions") as third:
        tab.ask("Thank you.")
    assert [m["role"] for m in third.value.post_data_json["messages"]] == ["user", "assistant"] * 2 + ["user"]

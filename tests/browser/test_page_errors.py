"""What the page says when things go wrong: in words, with what to do, and it goes on afterwards."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from chromium import Tabs
from running import Server, StartServer


def test_a_server_killed_in_mid_answer(start_server: StartServer, tabs: Tabs) -> None:
    server = start_server(slow=250)
    tab = tabs.new(server.url)
    tab.watch.expected += ["Failed to load resource", "net::ERR"]
    page = tab.open()
    tab.say("Tell me everything.")
    page.locator(".answer.streaming .prose p").wait_for()
    server.kill()
    expect(page.locator(".answer .waiting")).to_contain_text("Reconnecting")
    problem = page.locator(".problem")
    expect(problem).to_contain_text(re.compile("does not answer|connection closed"), timeout=30_000)
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert page.locator(".answer .prose").inner_text()  # what came is kept
    expect(page.locator("#fleet-text")).to_contain_text("does not answer")
    page.get_by_role("button", name="Try again").click()
    expect(problem).to_contain_text("freehold serve")


def test_a_gateway_killed_in_mid_answer_is_not_noticed_for_long(start_server: StartServer, tabs: Tabs) -> None:
    server = start_server(slow=60)
    tab = tabs.new(server.url)
    tab.watch.expected += ["Failed to load resource", "net::ERR"]
    page = tab.open()
    tab.say("Tell me everything.")
    page.locator(".answer.streaming .prose p").wait_for()
    server.kill_gateway()
    expect(page.locator(".answer .waiting")).to_contain_text("Reconnecting")
    page.locator(".figures").wait_for(timeout=60_000)
    expect(page.locator(".problem")).to_have_count(0)
    expect(page.locator(".waiting")).to_have_count(0)


def test_a_missing_key_is_asked_for_once_and_kept_for_the_tab_only(start_server: StartServer, tabs: Tabs) -> None:
    server = start_server(api_keys="on")
    tab = tabs.new(server.url)
    tab.watch.expected.append("401")
    page = tab.open()
    dialog = page.get_by_role("dialog", name="This server asks for a key")
    expect(dialog).to_be_visible()
    dialog.get_by_label("API key").fill("fh-wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("not accepted")
    dialog.get_by_label("API key").fill(server.api_key)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    tab.ask("Am I in?")
    assert server.api_key not in page.evaluate("JSON.stringify(localStorage)")
    page.reload()
    tab.ask("Still in?")


def test_a_refused_request_is_told_in_words(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    tab.watch.expected.append("Failed to load resource")
    page = tab.open()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Longest answer").fill("999999")
    page.get_by_role("button", name="Done").click()
    tab.say("Too much")
    problem = page.locator(".problem")
    expect(problem).to_contain_text("max_tokens")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("button", name="Done").click()
    with page.expect_request("**/v1/chat/completions") as asked:
        tab.ask("Better")
    assert [m["content"] for m in asked.value.post_data_json["messages"]] == ["Better"]


def test_a_cut_off_stream_is_not_taken_for_an_answer(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    body = 'data: {"choices": [{"index": 0, "delta": {"content": "Half an"}}]}\n\n'
    page.route("**/v1/chat/completions", lambda r: r.fulfill(status=200, content_type="text/event-stream", body=body))
    tab.say("Go on")
    expect(page.locator(".problem")).to_contain_text("The connection closed before the answer was complete.")
    expect(page.locator(".answer .prose")).to_have_text("Half an")


def test_an_error_inside_the_stream_is_told(server: Server, tabs: Tabs) -> None:
    tab = tabs.new(server.url)
    page = tab.open()
    error = '{"error": {"message": "The worker died. It ran out of memory. Try again.", "code": "worker_died"}}'
    body = 'data: {"choices": [{"index": 0, "delta": {"content": "So"}}]}\n\n' + f"data: {error}\n\n"
    page.route("**/v1/chat/completions", lambda r: r.fulfill(status=200, content_type="text/event-stream", body=body))
    tab.say("Go on")
    expect(page.locator(".problem-what")).to_have_text("The worker died.")
    expect(page.locator(".problem")).to_contain_text("It ran out of memory. Try again.")

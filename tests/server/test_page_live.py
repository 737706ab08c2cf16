"""The page with the real server behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

pytest.importorskip("playwright", reason="the page is tested with playwright")

from playwright.sync_api import Page, expect

from tests.server.browser import chromium
from tests.server.live import MODEL, LiveServer


@pytest.fixture
def page() -> Iterator[Page]:
    server = LiveServer("--ctx", "1024", "--api-key", "sesame")
    with chromium() as browser:
        one = browser.new_page()
        one.goto(server.url)
        yield one
    assert server.close() == 0


def test_a_conversation_with_a_model(page: Page) -> None:
    expect(page.get_by_role("alert")).to_contain_text("wants an API key")
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#model option")).to_have_text([MODEL])
    expect(page.locator("#cache")).to_contain_text("%")
    page.locator("summary").click()
    values = {"Temperature": "0", "top_p": "0.9", "top_k": "5", "Tokens at most": "8", "Seed": "1"}
    for name, value in values.items():
        page.get_by_label(name).fill(value)
    page.locator("#prompt").fill("Name three colours.")
    page.keyboard.press("Enter")
    answer = page.locator("article[data-role=assistant]")
    expect(answer.locator("footer")).to_have_text(
        re.compile(r"cut: .* · \d+.* \+ 8 tokens, first after .* s, .* tok/s"), timeout=60_000
    )
    first = answer.locator("p").text_content()
    page.locator("#again").click()
    expect(page.locator("#status")).to_contain_text("Answering")
    expect(page.locator("#status")).to_contain_text("8 tokens", timeout=60_000)
    assert answer.locator("p").text_content() == first

    page.get_by_label("Tokens at most").fill("")
    page.locator("#prompt").fill("Tell me a very long story.")
    page.keyboard.press("Enter")
    expect(answer).to_have_count(2, timeout=60_000)
    page.keyboard.press("Escape")
    expect(answer.last.locator("footer")).to_contain_text("stopped")
    expect(page.locator("#running")).to_have_text("0 running", timeout=60_000)

    page.locator("#prompt").fill("word " * 3000)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("1024", timeout=60_000)

"""The page in a browser: what people do with it, and what it must never do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("playwright", reason="the page is tested with playwright")

from playwright.sync_api import Browser, Page, expect

from plait.server.page import FILES, FOLDER
from tests.server.browser import chromium
from tests.server.fake_app import HOSTILE, FakeServer

expect.set_options(timeout=30_000)  # how long the browser takes under load is not what is tested

CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((v) => {
    const c = v / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  const light = (text) => { const [r, g, b] = rgb(text); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return /, 0\\)$/.test(color) ? behind(node.parentElement) : color;
  };
  const shown = [...document.querySelectorAll("body *")].filter((node) =>
    node.checkVisibility() && [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  return shown.map((node) => {
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), node.tagName + "#" + node.id];
  }).sort((x, y) => x[0] - y[0])[0];
}"""
"""The text with the least contrast to what is behind it: [ratio, element]."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def server() -> Iterator[FakeServer]:
    one = FakeServer()
    with one.running():
        yield one


@pytest.fixture
def page(browser: Browser, server: FakeServer) -> Iterator[Page]:
    """The page, open; at the end nothing was asked of another server, and no script had failed."""
    context = browser.new_context()
    context.set_default_timeout(10_000)
    one = context.new_page()
    asked: list[str] = []
    failed: list[str] = []
    one.on("request", lambda request: asked.append(request.url))
    one.on("pageerror", lambda error: failed.append(str(error)))
    one.on("dialog", lambda dialog: failed.append(dialog.message) or dialog.accept())
    one.goto(server.url)
    expect(one.locator("#model option")).to_have_text(["little", "large"])
    yield one
    context.close()
    assert [url for url in asked if not url.startswith(server.url)] == []
    assert [text for text in failed if not text.startswith("Delete ")] == []


def say(page: Page, text: str) -> None:
    page.locator("#prompt").fill(text)
    page.keyboard.press("Enter")


def answers(page: Page) -> Any:
    return page.locator("article[data-role=assistant]")


def test_an_answer_streams_in(page: Page, server: FakeServer) -> None:
    say(page, "say one two")
    expect(answers(page).locator("p")).to_have_text("one two")
    expect(answers(page).locator("footer")).to_contain_text("9 (4 cached) + 7 tokens")
    expect(answers(page).locator("footer")).to_contain_text("61.5 tok/s")
    expect(page.locator("#status")).to_contain_text("Answer complete")
    expect(page.locator("#prompt")).to_have_value("")
    assert server.bodies == [
        {
            "model": "little",
            "messages": [{"role": "user", "content": "say one two"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_text_is_there_before_the_end_and_escape_stops_it(page: Page, server: FakeServer) -> None:
    say(page, "forever")
    expect(answers(page)).to_contain_text("0 1 2")
    expect(page.locator("#send")).to_be_disabled()
    expect(page.locator("#messages")).to_have_attribute("aria-busy", "true")
    page.keyboard.press("Escape")
    expect(answers(page).locator("footer")).to_contain_text("stopped")
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#send")).to_be_enabled()
    expect(page.locator("#messages")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#prompt")).to_be_focused()
    assert server.has_left.wait(10), "the server was not told"


def test_a_canvas_is_shown_while_it_changes_and_not_kept(page: Page, server: FakeServer) -> None:
    page.locator("summary").click()
    page.get_by_label("Watch a diffusion model").select_option("yes")
    say(page, "canvas blue")
    canvas = answers(page).locator(".canvas")
    server.may_go_on.release()
    expect(canvas).to_have_text("\u2591\u2591\u2591")
    server.may_go_on.release()
    expect(canvas).to_have_text(f"bl\u2591{HOSTILE}")
    assert server.bodies[0]["watch"] is True
    server.may_go_on.release()
    expect(answers(page).locator("div")).to_have_text("blue")
    expect(page.locator("#status")).to_contain_text("Answer complete")
    expect(canvas).to_be_hidden()
    kept = page.evaluate("JSON.stringify(Object.values(localStorage))")
    assert "blue" in kept
    assert "canvas" not in kept.replace("canvas blue", "")
    page.reload()
    expect(page.locator("#watch")).to_have_value("true")
    page.locator("#watch").evaluate("(one) => { one.value = ''; }")
    say(page, "say plain")
    expect(answers(page).last).to_contain_text("plain")
    assert "watch" not in server.bodies[1]


def test_the_stop_button_keeps_what_was_said(page: Page, server: FakeServer) -> None:
    say(page, "forever")
    expect(answers(page)).to_contain_text("0 1")
    page.locator("#stop").click()
    expect(answers(page)).to_contain_text("stopped")
    say(page, "say more")
    expect(answers(page).last).to_contain_text("more")
    roles = [message["role"] for message in server.bodies[1]["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert server.bodies[1]["messages"][1]["content"].startswith("0 1")


def test_settings_are_sent_and_outlive_a_reload(page: Page, server: FakeServer) -> None:
    page.locator("summary").click()
    values = {"temperature": "0.5", "top_p": "0.9", "top_k": "40", "max_tokens": "12", "seed": "7"}
    for name, value in values.items():
        page.get_by_label({"max_tokens": "Tokens at most"}.get(name, name)).fill(value)
    page.get_by_label("System prompt").fill("Be short.")
    page.get_by_label("System prompt").blur()
    page.locator("#model").select_option("large")
    for _ in range(2):
        say(page, "say yes")
        expect(page.locator("#status")).to_contain_text("Answer complete")
        body = server.bodies[-1]
        assert body["messages"][0] == {"role": "system", "content": "Be short."}
        assert {name: body[name] for name in values} == {
            name: float(value) for name, value in values.items()
        }
        page.reload()
        expect(page.locator("#model option")).to_have_count(2)
    assert server.bodies[0]["model"] == "large"


def test_a_setting_out_of_range_is_not_sent(page: Page, server: FakeServer) -> None:
    page.locator("summary").click()
    page.get_by_label("top_p").fill("3")
    say(page, "say no")
    expect(page.get_by_label("top_p")).to_be_focused()
    expect(page.locator("#prompt")).to_have_value("say no")
    assert server.bodies == []


def test_conversations_outlive_a_reload_and_are_deleted(page: Page) -> None:
    say(page, "say first")
    expect(page.locator("#status")).to_contain_text("Answer complete")
    page.locator("#new").click()
    expect(page.locator("article")).to_have_count(0)
    say(page, "say second")
    expect(page.locator("#status")).to_contain_text("Answer complete")
    page.reload()
    expect(page.locator("#conversations .open")).to_have_text(["say second", "say first"])
    expect(answers(page).locator("p")).to_have_text("second")
    page.get_by_role("button", name="say first", exact=True).click()
    expect(answers(page).locator("p")).to_have_text("first")
    page.get_by_role("button", name="Delete say first").click()
    expect(page.locator("#conversations .open")).to_have_text(["say second"])
    page.reload()
    expect(page.locator("#conversations .open")).to_have_text(["say second"])


def test_a_reload_in_the_middle_keeps_the_half_answer(page: Page) -> None:
    say(page, "forever")
    expect(answers(page)).to_contain_text("0 1 2 3")
    page.reload()
    expect(answers(page)).to_contain_text("0 1 2 3")
    expect(answers(page).locator("footer")).to_have_text(re.compile("unfinished|broken off"))


def test_an_answer_goes_on_while_another_conversation_is_looked_at(page: Page) -> None:
    say(page, "forever")
    expect(answers(page)).to_contain_text("0 1")
    page.locator("#new").click()
    expect(answers(page)).to_have_count(0)
    page.get_by_role("button", name="forever", exact=True).click()
    expect(answers(page)).to_contain_text("7 8 9")
    page.keyboard.press("Escape")
    expect(answers(page)).to_contain_text("stopped")


def test_what_the_store_cannot_hold_or_read_is_no_end(page: Page) -> None:
    page.evaluate("localStorage.setItem('plait.conversation.x', '{bad')")
    page.evaluate("localStorage.setItem('plait.conversation.y', '{\"messages\": [{}]}')")
    page.reload()
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('quota'); }; }")
    say(page, "say still")
    expect(answers(page).locator("p")).to_have_text("still")
    expect(page.locator("#error-text")).to_contain_text("keeps no more")
    assert page.evaluate("localStorage.getItem('plait.conversation.x')") == "{bad"


def test_regenerate_asks_again_without_the_answer(page: Page, server: FakeServer) -> None:
    expect(page.locator("#again")).to_be_hidden()
    say(page, "say this")
    expect(page.locator("#status")).to_contain_text("Answer complete")
    page.locator("#again").click()
    expect(page.locator("#status")).to_contain_text("Answer complete")
    expect(answers(page)).to_have_count(1)
    assert server.bodies[0] == server.bodies[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("refuse", ["status 400", "the prompt has 9000 tokens"]),
        ("busy", ["too much to do. Try again in 7 s.", "full"]),
        ("die now", ["the engine failed"]),
        ("break now", ["broke before the answer was complete"]),
    ],
)
def test_what_went_wrong_is_said_in_words(page: Page, text: str, words: list[str]) -> None:
    say(page, text)
    for part in words:
        expect(page.get_by_role("alert")).to_contain_text(part)
    expect(page.locator("#retry")).to_be_visible()
    expect(page.locator("#send")).to_be_enabled()
    if text in ("die now", "break now"):
        expect(answers(page).locator("p")).to_have_text("now")
        expect(answers(page).locator("footer")).to_have_text("broken off")


def test_a_server_that_is_gone_costs_nothing_and_is_asked_again(browser: Browser) -> None:
    server = FakeServer()
    context = browser.new_context()
    page = context.new_page()
    with server.running():
        page.goto(server.url)
        say(page, "say kept")
        expect(answers(page).locator("p")).to_have_text("kept")
    page.locator("#again").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    expect(answers(page).locator("p")).to_have_text("kept")
    with server.running(server.port):
        page.locator("#retry").click()
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.locator("#status")).to_contain_text("Answer complete")
        context.close()
    assert len(server.bodies) == 2


def test_a_key_is_asked_for_and_used(browser: Browser, server: FakeServer) -> None:
    server.key = "sesame"
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    expect(page.get_by_role("alert")).to_contain_text("wants an API key")
    expect(page.get_by_label("API key")).to_be_focused()
    say(page, "say open")
    expect(page.get_by_label("API key")).to_be_focused()
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_label("API key")).to_have_value("")
    expect(page.get_by_label("API key")).to_be_visible()
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(answers(page).locator("p")).to_have_text("open")
    expect(page.locator("#key-form")).to_be_hidden()
    assert "sesame" not in page.evaluate("JSON.stringify(localStorage)")
    context.close()


def test_a_models_text_is_never_html(page: Page) -> None:
    say(page, f"say {HOSTILE}\n```html\n{HOSTILE}\n```\nafter")
    expect(answers(page).locator("p")).to_have_text([HOSTILE, "after"])
    expect(answers(page).locator("code")).to_have_text(HOSTILE)
    expect(answers(page).locator("figcaption span")).to_have_text("html")
    expect(page.locator("#messages").locator("img, script, a, iframe")).to_have_count(0)


def test_an_open_block_of_code_is_code_already(page: Page) -> None:
    say(page, "say ````\n```\nx = 1")
    expect(answers(page).locator("code")).to_have_text("```\nx = 1")


def test_the_gauges_show_what_the_metrics_say(page: Page) -> None:
    expect(page.locator("#cache")).to_contain_text("25 %")
    expect(page.locator("#running")).to_have_text("1 running, 2 waiting")
    say(page, "forever")
    expect(page.locator("#speed")).to_contain_text("tok/s")
    page.keyboard.press("Escape")


def test_shift_enter_starts_a_line(page: Page, server: FakeServer) -> None:
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("say a")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("b")
    page.keyboard.press("Enter")
    expect(answers(page).locator("p")).to_have_text("a\nb")
    assert server.bodies[0]["messages"][0]["content"] == "say a\nb"


def test_everything_has_a_name_and_is_reached_by_tab(page: Page) -> None:
    say(page, "say x")
    expect(page.locator("#status")).to_contain_text("Answer complete")
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, select, textarea")]
      .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim()))
      .map((e) => e.outerHTML)""")
    assert nameless == []
    page.locator(".skip").focus()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    order = ["model", "new", "SUMMARY", "messages", "prompt", "send", "again"]
    assert [name for name in reached if name in order][: len(order)] == order


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.locator("summary").click()
    say(page, "refuse")
    expect(page.get_by_role("alert")).to_be_visible()
    page.locator("#new").click()
    say(page, "say text\n```py\ncode\n```")
    expect(page.locator("#status")).to_contain_text("Answer complete")
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(251, 250, 248)") == (scheme == "light")


def test_a_narrow_screen_shows_the_message_and_hides_the_rest(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    say(page, "say " + "long" * 100 + "\n```\n" + "code " * 100 + "\n```")
    expect(page.locator("#status")).to_contain_text("Answer complete")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator("#prompt")).to_be_in_viewport()
    expect(page.locator("#new")).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    expect(page.locator("#new")).to_be_visible()
    expect(page.locator("#menu")).to_have_attribute("aria-expanded", "true")


def test_the_policy_lets_in_no_inline_script_and_no_html(page: Page, server: FakeServer) -> None:
    answer = page.request.get(server.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    refused = page.evaluate("""() => {
      try { document.body.innerHTML = "<p>x</p>"; return ""; } catch (error) { return error.name; }
    }""")
    assert refused == "TypeError"


def test_every_file_is_served_and_names_nothing_outside() -> None:
    assert {file.name for file in FILES.values()} == {
        file.name for file in FOLDER.iterdir() if file.suffix not in (".py", "")
    }
    for file in FILES.values():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", ""), file.name
        assert "innerHTML" not in text
        assert len(text.splitlines()) <= 200

"""The page of `fastclip serve` in a real browser: what people do, and what must not happen."""

import json
import random
import time
from urllib.parse import quote

import pytest

from fastclip.embeddings import embed, open_embeddings
from fastclip.serve.service import open_service
from tests.support import browser
from tests.support.live import live
from tests.support.shapes import draw, draw_shapes, shapes_model

why_not = browser.objection()
pytestmark = pytest.mark.skipif(why_not is not None, reason=str(why_not))
EVIL_NAME = "x..%2f..%2fetc%2fpasswd.png"
EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)"> orange orange heart'


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "photos"
    draw_shapes(folder, 240)
    draw("orange", "heart", random.Random(1)).save(folder / EVIL_NAME)
    (folder / EVIL_NAME).with_suffix(".txt").write_text(EVIL)
    return folder


@pytest.fixture(scope="module")
def address(photos):
    embed(shapes_model(), photos, photos.parent / "shapes", metadata="jsonl")
    (photos / "0007.png").unlink()  # after it was embedded
    service = open_service(open_embeddings(photos.parent / "shapes"), shapes_model())
    with live(service) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as found:
        yield found


@pytest.fixture
def page(chromium, address):
    """The page in a window of its own, in which nothing may go wrong and nobody else be asked."""
    context = chromium.new_context(viewport={"width": 1180, "height": 760})
    page = context.new_page()
    page.set_default_timeout(10_000)
    wrong = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith((address, "blob:"))
            else wrong.append(request.url))  # fmt: skip
    page.goto(address)
    until(page, "document.getElementById('name').textContent === 'shapes'")
    yield page
    context.close()
    gone = "Failed to load resource: the server responded with a status of"  # as of image 7
    assert [text for text in wrong if not text.startswith(gone)] == []


def until(page, expression):
    """Wait; playwright's own way takes eval, which the page's policy forbids."""
    deadline = time.monotonic() + 10
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def search(page, line):
    page.fill("#query", line)
    page.press("#query", "Enter")
    settled(page)


def settled(page):
    until(page, "!document.getElementById('results').hasAttribute('aria-busy')")


def captions(page):
    return page.locator("#results .caption").all_text_contents()


def fields(page):
    return page.evaluate("[...new URLSearchParams(location.search)].map((f) => f.join('='))")


def shows_parts(page, *expected):
    """Wait for these chips, of which each is a sign and what it is a sign of."""
    found = """() => [...document.querySelectorAll("#parts li")]
        .map((e) => e.querySelector(".sign").textContent + e.querySelector(".what").textContent)"""
    deadline = time.monotonic() + 10
    while (shown := page.evaluate(found)) != list(expected):
        assert time.monotonic() < deadline, shown
        page.wait_for_timeout(20)


def test_a_search_is_in_the_address_and_says_what_stands_out(page, address):
    search(page, "green star")
    page.wait_for_selector("article.stands-out")
    told = page.inner_text("#headline")
    number = page.locator("article.stands-out").count()
    assert told == f"{number} results stand out from chance"
    assert page.inner_text("#judged") == "judged by the mean and covariance of all vectors"
    assert page.locator(".mark:visible").count() == number  # in words, not by colour alone
    assert (
        captions(page)[:number] == ["a green star"] * number
        and "a green star" not in (captions(page)[number:])
    )
    assert fields(page) == ["q=green star"] and page.title() == "green star – shapes"
    assert page.locator("article.stands-out img").first.evaluate("i => i.naturalWidth") == 160
    page.goto(f"{address}?q=star")  # a fifth of all, from which nothing stands out
    page.wait_for_selector("article")
    assert page.inner_text("#headline").lower() == "nothing stands out from chance"
    assert page.input_value("#query") == "star" and page.locator(".mark:visible").count() == 0


def test_the_keyboard_is_enough(page):
    page.locator("#dedup").focus()
    page.keyboard.press("/")
    page.keyboard.type("blue circle")
    page.keyboard.press("Enter")
    page.wait_for_selector("article.stands-out")
    focused = """() => [...document.querySelectorAll("article")].indexOf(document.activeElement)"""
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == 0
    places = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowDown", "End", "Home"):
        page.keyboard.press(key)
        places.append(page.evaluate(focused))
    columns = places[3] - 1
    assert places == [1, 2, 1, 1 + columns, 39, 0] and 3 <= columns <= 7
    assert page.locator(".actions").first.evaluate("e => getComputedStyle(e).opacity") != "0"
    row = page.locator("article").first.get_attribute("data-row")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**like={row}")
    shows_parts(page, f"+like no. {row}")
    assert page.input_value("#query") == ""
    page.go_back()
    page.wait_for_url("**?q=blue+circle")
    shows_parts(page, "+blue circle")
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "More like this"


def test_results_are_added_and_subtracted_and_parts_are_removed(page):
    search(page, "2:blue circle - blue star")
    shows_parts(page, "+2 × blue circle", "−blue star")
    card = page.locator("article").nth(2)
    row = card.get_attribute("data-row")
    card.hover()
    card.get_by_text("Subtract").click()
    page.wait_for_url(f"**like=-1%3A{row}")
    shows_parts(page, "+2 × blue circle", "−blue star", f"−like no. {row}")
    page.get_by_label("Remove blue star").click()
    until(page, "document.getElementById('query').value === '2:blue circle'")
    # The answer brings new chips: a click on an old one could meet neither.
    shows_parts(page, "+2 × blue circle", f"−like no. {row}")
    page.get_by_label(f"like no. {row} is subtracted; add it instead").click()
    page.wait_for_url(f"**?q=2%3Ablue+circle&like={row}")
    shows_parts(page, "+2 × blue circle", f"+like no. {row}")
    page.get_by_label("blue circle is added; subtract it instead").click()
    until(page, "document.getElementById('query').value === '- 2:blue circle'")
    shows_parts(page, "−2 × blue circle", f"+like no. {row}")
    page.reload()
    shows_parts(page, "−2 × blue circle", f"+like no. {row}")


def test_the_address_says_what_is_searched_and_what_of_it_cannot_be_read(page, address):
    page.goto(f"{address}?q=red+circle&over=texts")
    page.wait_for_selector("article.words")
    assert page.input_value("#over") == "texts"
    page.select_option("#over", "images")
    page.wait_for_selector("article:not(.words)")
    assert fields(page) == ["q=red circle"]
    page.go_back()
    page.wait_for_selector("article.words")
    assert page.input_value("#over") == "texts"
    page.goto(f"{address}?q=red+circle&like=abc&like=0:3&over=sounds&page=2")
    page.wait_for_selector("article")
    assert page.inner_text("#error") == (
        "These parts of the address are ignored, as they cannot be read: page, like=abc, like=0:3, "
        "over=sounds."
    )
    shows_parts(page, "+red circle")


def test_captions_and_file_names_are_text(page, address):
    search(page, "orange heart")
    page.wait_for_selector("article.stands-out")
    assert EVIL in captions(page)
    row = page.locator("article", has_text="<script>").get_attribute("data-row")
    page.goto(f"{address}?q=orange+heart&over=texts")
    page.wait_for_selector("article.words")
    assert page.locator("#results script, #results img[src=x]").count() == 0
    picture = page.request.get(f"{address}image/{row}")
    assert picture.ok and picture.headers["content-type"] == "image/jpeg"
    assert page.request.get(f"{address}image/{EVIL_NAME}").status == 404
    search(page, EVIL.replace('"', "").replace(":", ""))
    assert page.locator("#parts script, #parts img[src=x]").count() == 0
    search(page, "orange heart")
    page.get_by_text("<script>alert(1)").first.wait_for()


def test_what_the_server_refuses_is_said_and_typing_goes_on(page):
    search(page, "cat -dog")
    page.wait_for_selector("#error:not(:empty)")
    assert "write '- dog', as two words" in page.inner_text("#error")
    search(page, "red circle")
    page.wait_for_selector("article.stands-out")
    assert page.inner_text("#error") == ""


@pytest.mark.parametrize("way", ["pick", "drop", "paste"])
def test_an_image_is_searched_for(page, photos, tmp_path, way):
    search(page, "red circle")
    path = tmp_path / "mine.png"
    draw("teal", "star", random.Random(5)).save(path)
    if way == "pick":
        page.set_input_files("#file", path)
    else:
        page.evaluate(
            """([way, bytes]) => {
                const file = new File([new Uint8Array(bytes)], "mine.png", {type: "image/png"});
                const data = new DataTransfer();
                data.items.add(file);
                const event = way === "drop"
                    ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
                    : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
                document.body.dispatchEvent(event);
            }""",
            [way, list(path.read_bytes())],
        )
    until(page, "document.querySelector('#parts .what')?.textContent === 'your image'")
    until(page, "document.querySelector('#results .caption').textContent === 'a teal star'")
    assert fields(page) == [] and page.input_value("#query") == ""
    assert page.locator("#parts img").evaluate("i => i.naturalWidth") == 160
    search(page, "teal heart")  # beside the image
    shows_parts(page, "+teal heart", "+your image")
    page.go_back()
    until(page, "document.getElementById('query').value === ''")
    shows_parts(page, "+your image")
    page.reload()
    page.wait_for_selector("#error:not(:empty)")
    assert "Drop it again" in page.inner_text("#error")


def test_rows_whose_image_is_gone_show_their_caption(page, address, photos):
    caption = (photos / "0007.txt").read_text()
    page.goto(f"{address}?q={quote(caption)}")
    page.wait_for_selector("article.words")
    gone = page.locator("article[data-row='7']")
    assert gone.locator("img").count() == 0
    assert gone.locator(".caption").inner_text() == caption
    assert page.locator("article img").count() == 39


def test_results_are_saved_as_json_and_more_are_shown(page):
    search(page, "purple square")
    page.wait_for_selector("article.stands-out")
    with page.expect_download() as download:
        page.click("#export")
    found = json.loads(download.value.path().read_text())
    assert download.value.suggested_filename == "results.json" and len(found["results"]) == 40
    assert found["results"][0]["caption"] == "a purple square" and "images" not in found
    page.click("#more")
    until(page, "document.querySelectorAll('article').length === 80")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("41: ")
    page.uncheck("#captions")
    page.uncheck("#scores")
    assert not page.locator(".caption:visible, .numbers:visible").count()


def test_phones_and_dark_rooms(page):
    search(page, "red circle - red square + 0.5:pink heart")
    page.wait_for_selector("article")
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != light
    page.set_viewport_size({"width": 340, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 340
    tops = page.locator("#results li").evaluate_all("items => items.map((i) => i.offsetTop)")
    assert tops.count(tops[0]) == 2


def test_everything_that_can_be_pressed_has_a_name_and_news_are_announced(page):
    search(page, "red circle")
    page.wait_for_selector("article.stands-out")
    nameless = """
        () => [...document.querySelectorAll("button, a[href], input:not([aria-hidden]), select")]
            .filter((e) => e.offsetParent && !e.textContent.trim() && !e.labels?.length)
            .filter((e) => !e.getAttribute("aria-label")).map((e) => e.outerHTML)"""
    assert page.evaluate(nameless) == []
    assert page.get_attribute("#headline", "aria-live") == "polite"
    label = page.locator("article").first.get_attribute("aria-label")
    assert label == "1: a red circle, stands out"

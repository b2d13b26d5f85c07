"""The page in a real browser: Debian's chromium, driven by playwright."""

import json
import shutil
import time
import zipfile

import pytest
from PIL import Image

import gradtoken
from gradtoken.models.bundled import FOLDER

pytest.importorskip("gradio", reason="the extra `app` is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from tests import texts  # noqa: E402
from tests.web.test_serving import start  # noqa: E402  which needs the extra

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")]
METHODS = ["gradtoken", "gaze", "legrad", "rollout"]
SECONDS = 180_000  # milliseconds that anything may take on a machine that is busy


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    server, address = start(tmp_path_factory.mktemp("browser"), bytes=1_000_000)
    yield address
    server.terminate()
    server.wait(timeout=200)
    server.stdout.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """A page that shows its first map. What it asked for elsewhere, and its errors, are found at the end."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, outside, wrong = context.new_page(), [], []
    page.set_default_timeout(SECONDS)
    known = (address, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(known) else outside.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security" in said.text else None)
    page.goto(address)
    page.wait_for_selector(".gt-map img")
    page.wait_for_function("document.querySelectorAll('.gt-class').length > 3")
    yield page
    context.close()
    assert not outside
    assert not wrong


def maps(page, count):
    """The values of the maps, once there are so many."""
    page.wait_for_function(f"document.querySelectorAll('.gt-shown .gt-map').length === {count}")
    return [json.loads(one.get_attribute("data-map")) for one in page.query_selector_all(".gt-shown [data-map]")]


def changed(page, act, part=".gt-maps"):
    """Do something, and wait until a part of the page is another one."""
    before = page.inner_html(part)
    act()
    page.wait_for_function("([part, before]) => document.querySelector(part)?.innerHTML !== before", arg=[part, before])


def upload(page, *files):
    page.set_input_files("#gt-file", files[0])


def test_upload_choose_compare_and_download(page, tmp_path):
    changed(page, lambda: upload(page, FOLDER / "pictures" / "dog.jpg"), ".gt-picture")
    assert "dog.jpg" in page.inner_text(".gt-picture")
    assert page.get_attribute(".gt-class >> nth=0", "aria-pressed") == "true"
    (dog,) = maps(page, 1)
    changed(page, lambda: page.click(".gt-class:has-text('cat')"))
    (cat,) = maps(page, 1)
    assert cat["values"] != dog["values"]
    page.click("li:has(.gt-class:has-text('dog')) .gt-beside")
    assert maps(page, 2)[0]["values"] == cat["values"]
    with page.expect_download() as download:
        page.click("[data-file=npz]")
    download.value.save_as(tmp_path / "a.npz")
    assert download.value.suggested_filename == "dog-gradtoken.npz"
    with zipfile.ZipFile(tmp_path / "a.npz") as numbers:
        assert "relevance_1.npy" in numbers.namelist()
    with page.expect_download() as download:
        page.click("[data-file=png]")
    download.value.save_as(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 1000


def test_another_method_and_its_display(page):
    page.get_by_label("Methods").click()
    page.keyboard.type("gradtoken")
    page.keyboard.press("Enter")
    assert len(maps(page, 2)) == 2
    assert page.query_selector("section[aria-label=gradtoken]"), "not one whose name it is a part of"
    page.keyboard.press("Escape")
    page.click("text=Display")
    changed(page, lambda: page.get_by_label("nearest").check())
    changed(page, lambda: page.get_by_label("Borders of patches").check())
    page.click("text=The same in Python")
    assert "lines=True" in page.text_content(".gt-code code")


def test_a_bad_picture_is_a_message_and_the_page_goes_on(page, tmp_path):
    bad = tmp_path / "<img src=x onerror=document.title='hacked'>.png"
    bad.write_bytes(b"%PDF-1.7 nothing")
    changed(page, lambda: upload(page, bad), ".gt-result")
    page.wait_for_selector("[role=alert]")
    assert "PDF document" in page.inner_text("[role=alert]")
    large = tmp_path / "large.png"
    large.write_bytes(bytes(1_000_001))
    upload(page, large)
    page.wait_for_function("document.querySelector('.gt-sent').textContent.includes('larger')")
    assert "hacked" not in page.title()
    changed(page, lambda: page.click("[data-sample='horse.jpg']"), ".gt-picture")
    assert page.query_selector("[role=alert]") is None


def test_numbers_under_the_pointer_and_by_keyboard(page):
    (found,) = maps(page, 1)
    page.hover(".gt-stack", position={"x": 2, "y": 2})
    first = page.inner_text(".gt-number")
    assert "row 1, column 1" in first
    assert float(first.split()[0]) == pytest.approx(found["values"][0][0], rel=1e-2)
    page.mouse.move(0, 0)
    assert page.inner_text(".gt-number") == ""
    page.focus(".gt-stack")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    row, column = found["rows"] // 2 + 1, found["columns"] // 2 + 1
    assert f"row {row + 1}, column {column + 1}" in page.inner_text(".gt-number")
    assert page.text_content("#gt-said") == page.text_content(".gt-number")
    page.keyboard.press("Escape")
    assert page.inner_text(".gt-number") == ""


def test_variants_and_erasing(page):
    page.click("text=Inside GradToken")
    page.click("text=Show them")
    page.wait_for_selector(".gt-variants")
    assert len(page.query_selector_all(".gt-variants")) == 3
    page.click(".gt-stack >> nth=0", position={"x": 200, "y": 100})
    numbers = [one.inner_text() for one in page.query_selector_all(".gt-variants .gt-number b")]
    assert all(numbers)
    assert len(set(numbers)) > 10
    page.click("text=Is the map faithful")
    page.click("text=Erase patch by patch")
    page.wait_for_selector(".gt-chart polyline")
    slider = page.locator(".gt-erase input")
    slider.focus()
    slider.press("End")
    assert page.inner_text(".gt-erase output").startswith("100 % erased")


def test_a_pasted_and_a_dropped_picture(page):
    content = list((FOLDER / "pictures" / "duck.jpg").read_bytes())
    script = """([content, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(content)], kind + ".jpg", {type: "image/jpeg"}));
        const how = {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
        document.body.dispatchEvent(kind === "paste" ? new ClipboardEvent(kind, how) : new DragEvent(kind, how));
    }"""
    for kind in ("paste", "drop"):
        changed(page, lambda kind=kind: page.evaluate(script, [content, kind]), ".gt-picture")
        assert f"{kind}.jpg" in page.inner_text(".gt-picture")


def test_the_page_by_keyboard_alone(page):
    page.focus("#gt-search input, #gt-search textarea")
    page.keyboard.type("gir")
    page.wait_for_function("document.querySelectorAll('.gt-class').length === 1")
    page.keyboard.press("Tab")
    changed(page, lambda: page.keyboard.press("Enter"))
    page.wait_for_function("document.activeElement.dataset.class !== undefined")
    assert "giraffe" in page.inner_text(".gt-shown")
    page.fill("#gt-search input, #gt-search textarea", "")
    changed(page, lambda: page.keyboard.type("dog\n"))
    page.wait_for_function("document.querySelectorAll('.gt-class').length > 3")
    assert "dog" in page.inner_text(".gt-shown")


def test_a_text_by_keyboard(page, tmp_path):
    texts.bert().save_pretrained(tmp_path)
    texts.tokenizer().save_pretrained(tmp_path)
    read_text(page, tmp_path, "The <b>film</b> was unforgettable")
    assert "<b>film</b>" in page.inner_text(".gt-words .text")
    page.focus(".gt-words")
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".gt-text .gt-number") == page.get_attribute(".gt-words mark", "title")
    page.click("[data-beside]:visible")
    page.wait_for_function("document.querySelectorAll('.gt-words').length === 2")


def test_inside_a_text_and_its_erasing(page, tmp_path):
    texts.bert().save_pretrained(tmp_path)
    texts.tokenizer().save_pretrained(tmp_path)
    read_text(page, tmp_path, "The film was unforgettable , never dull")
    page.locator("text=Inside GradToken >> visible=true").click()
    page.locator("text=Show them >> visible=true").click()
    page.wait_for_selector(".gt-variants")
    page.locator(".gt-words mark >> nth=1").hover()
    told = [one.inner_text() for one in page.query_selector_all(".gt-text .gt-number")]
    assert len(told) == 1 + 2 + 3 + 5, "the map, heads, depths, schemes"
    assert all(one.startswith("film: ") for one in told)
    page.locator("text=Is the map faithful >> visible=true").click()
    page.click("text=Erase word by word")
    page.wait_for_selector(".gt-chart polyline")
    slider = page.locator(".gt-erase input")
    slider.focus()
    slider.press("ArrowRight")
    assert len(page.query_selector_all(".gt-gone")) == 1
    slider.press("End")
    assert len(page.query_selector_all(".gt-gone")) == 7
    assert page.inner_text(".gt-erase output").startswith("100 % erased")


def read_text(page, model, words):
    page.get_by_role("tab", name="Text").click()
    page.get_by_label("Text", exact=True).fill(words)
    page.get_by_label("Model of texts").fill(str(model))
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Explain").click()
    page.wait_for_selector(".gt-words mark")


def test_a_refusal_is_seen_wherever_the_page_stands(page, tmp_path):
    page.set_viewport_size({"width": 1280, "height": 500})
    page.evaluate("scrollTo(0, 99999)")
    (tmp_path / "a.png").write_bytes(b"text")
    upload(page, tmp_path / "a.png")
    page.wait_for_selector("[role=alert]")
    page.wait_for_function("document.querySelector('[role=alert]').getBoundingClientRect().bottom > 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_bars_anybody(browser, address, tmp_path, scheme):
    """The rules of axe-core, on both tabs with all that opens."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    texts.bert().save_pretrained(tmp_path)
    texts.tokenizer().save_pretrained(tmp_path)
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    page.goto(address)
    page.wait_for_selector(".gt-map img")
    page.click("text=Display")
    page.click("text=The same in Python")
    opened(page, "patch")
    assert violations(axe, page) == []
    upload(page, __file__)
    page.wait_for_selector("[role=alert]")
    assert violations(axe, page) == []
    read_text(page, tmp_path, "The <b>film</b> was unforgettable , never dull . " * 4)
    page.wait_for_function("!document.querySelector('.gt-text').closest('.pending, .generating')")
    assert violations(axe, page) == []
    read_text(page, tmp_path, "The film was unforgettable")
    opened(page, "word")
    assert violations(axe, page) == []
    context.close()


def opened(page, unit):
    """Heads, depths and schemes, and the curves of erasing, of the tab that is shown."""
    page.locator("text=Inside GradToken >> visible=true").click()
    page.locator("text=Show them >> visible=true").click()
    page.wait_for_selector(".gt-variants >> visible=true")
    page.locator("text=Is the map faithful >> visible=true").click()
    page.click(f"text=Erase {unit} by {unit}")
    page.wait_for_selector(".gt-chart polyline >> visible=true")
    page.wait_for_timeout(500)  # until what fades in is there


def violations(axe, page):
    found = axe.Axe().run(page).response["violations"]
    return [(one["impact"], one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_narrow_and_dark(browser, address, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    page.goto(address)
    page.wait_for_selector(".gt-map img")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    assert (sum(light) / 3 > 128) is (scheme == "light")
    context.close()


def test_a_class_that_was_seen_is_back_at_once(page):
    for name in ("giraffe", "cat"):
        changed(page, lambda name=name: page.click(f".gt-class:has-text('{name}')"))
    begin = time.perf_counter()
    changed(page, lambda: page.click(".gt-class:has-text('giraffe')"))
    assert time.perf_counter() - begin < 5, "half a second on two cores of their own"


def test_pictures_of_a_notebook_stay_in_their_cells(browser):
    """Whatever the style sheet of the notebook; numbers of one bar do not run into those of the next."""
    table = gradtoken.compare(FOLDER / "pictures" / "cat_and_giraffe.jpg", target=["cat", "dog"], method=METHODS)
    page = browser.new_page(viewport={"width": 700, "height": 600})
    page.set_content(f"<body>{table._repr_html_()}</body>")
    over = page.evaluate("""[...document.querySelectorAll("td img, td span")].filter(one => {
        const box = one.getBoundingClientRect(), cell = one.closest("td").getBoundingClientRect();
        return box.left < cell.left || box.right > cell.right + 0.5;
    }).map(one => one.outerHTML.slice(0, 99))""")
    page.close()
    assert over == []

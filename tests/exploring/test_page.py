"""The explorer in a real browser, which wheels, drags, clicks, types and compares: it shows what NumPy computes."""

import io
import re
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

import regard
from regard import masks
from regard.exploring.atlas import Atlas
from regard.exploring.offline import write_page
from regard.exploring.server import Server
from regard.exploring.views import view_of

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome")]

LENGTH = 600
HOSTILE = "</script><img src=x onerror=document.title='run'>"
TOKENS = [HOSTILE, *(f"word{number}" for number in range(1, LENGTH))]


def made(seed):
    random = np.random.default_rng(seed)
    query, key = (random.normal(size=(1, 3, LENGTH, 8)).astype(np.float32) * 1.5 for _ in range(2))
    return regard.attention(query, key, key, mask=masks.causal()).weights


ONE, TWO = made(1), made(2)
DENSE = np.stack([ONE.dense()[0], TWO.dense()[0]])


@pytest.fixture(scope="module")
def address():
    served = Server(Atlas([view_of([ONE, TWO], TOKENS, title=HOSTILE)]))
    yield served.address
    served.close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    found = browser.new_page(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    said = []
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    found.goto(address)
    drawn(found)
    yield found
    assert said == []
    assert found.title() == "Regard · explore"
    found.close()


def until(page, told):
    """Waits for what a script says: the page's policy forbids what Playwright waits with."""
    for _ in range(200):
        if page.evaluate(told):
            return
        page.wait_for_timeout(50)
    raise AssertionError(told)


def drawn(page):
    until(page, "document.querySelector('.map') && !document.querySelector('.map:not([data-ready=yes])')")
    page.wait_for_timeout(120)


def middle(page, number=0):
    box = page.locator(".map-middle").nth(number).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def lie(page):
    return page.evaluate("explorer.maps[0].lie")


def wheel(page, times, at=None):
    page.mouse.move(*(at or middle(page)))
    for _ in range(times):
        page.mouse.wheel(0, -100)
        page.wait_for_timeout(60)
    drawn(page)


def in_view(page, number=0):
    found = page.evaluate(
        "(number) => { const found = explorer.maps[number].numbersInView(); "
        "return {...found, values: [...found.values].map((value) => isNaN(value) ? null : value)}; }",
        number,
    )
    values = np.array([np.nan if value is None else value for value in found["values"]], float)
    return values.reshape(found["shape"]), found["first"], found["steps"]


def blocks(dense, first, steps, shape, reduce=np.add):
    part = dense[first[0] : first[0] + steps[0] * shape[0], first[1] : first[1] + steps[1] * shape[1]]
    rows, keys = np.arange(0, part.shape[0], steps[0]), np.arange(0, part.shape[1], steps[1])
    total = reduce.reduceat(reduce.reduceat(part.astype(float), rows, 0), keys, 1)
    count = np.add.reduceat(np.add.reduceat(np.ones_like(part, float), rows, 0), keys, 1)
    return total / count if reduce is np.add else total


def test_each_zoom_shows_the_means_of_numpy(page):
    sizes = set()
    for _ in range(4):
        values, first, steps = in_view(page)
        np.testing.assert_allclose(np.nan_to_num(values), blocks(DENSE[0, 0], first, steps, values.shape), atol=1e-6)
        assert np.isnan(values).any() or first[1] < first[0]
        sizes.add(tuple(steps))
        wheel(page, 4, at=tuple(np.array(middle(page)) - [60, 0]))
    assert len(sizes) > 1
    assert (1, 1) in sizes


def test_wheel_zooms_where_the_mouse_is_and_a_drag_moves(page):
    x, y = np.array(middle(page)) - [80, -40]
    before = lie(page)
    wheel(page, 5, at=(x, y))
    after = lie(page)
    assert after["across"] > before["across"] * 2
    box = page.locator(".map-middle").bounding_box()
    for axis, step, at in (("x", "across", x - box["x"]), ("y", "down", y - box["y"])):
        where = [(at - each[axis]) / each[step] for each in (before, after)]
        assert where[0] == pytest.approx(where[1], abs=1.5 / before[step] + 1)
    page.mouse.down()
    page.mouse.move(x + 50, y + 30, steps=5)
    page.mouse.up()
    page.wait_for_timeout(400)
    moved = lie(page)
    assert moved["x"] - after["x"] >= 45
    assert moved["y"] - after["y"] >= 25
    assert moved["across"] == after["across"]


def test_the_keyboard_alone_moves_zooms_and_steps(page):
    page.locator(".map-middle").focus()
    before = lie(page)
    for _ in range(4):
        page.keyboard.press("+")
        page.wait_for_timeout(80)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    assert lie(page)["across"] > before["across"] * 3
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowLeft")
    picked = page.evaluate("explorer.maps[0].marks.picked")
    assert picked
    # With the row's answer.
    until(page, f"document.querySelector('#sentence').textContent.includes('{picked['row']} ')")
    page.keyboard.press("]")
    drawn(page)
    assert page.locator(".map-title").inner_text() == "Layer 0, head 1"


def test_the_sentence_of_a_cell_tells_query_key_weight_and_rank(page):
    page.evaluate("explorer.maps[0].goTo(400, 120, 12)")
    drawn(page)
    place = lie(page)
    box = page.locator(".map-middle").bounding_box()
    x, y = (box["x"] + place["x"] + 120.5 * place["across"], box["y"] + place["y"] + 400.5 * place["down"])
    page.mouse.move(x, y)
    told = page.locator("#sentence")
    until(page, "document.querySelector('#sentence').textContent.startsWith('Query 400')")
    weight = DENSE[0, 0, 400, 120]
    assert "Query 400 “word400” gives key 120 “word120”" in told.inner_text()
    page.mouse.click(x, y)
    rank = int((DENSE[0, 0, 400] > weight).sum()) + 1
    until(page, "document.querySelector('#sentence').textContent.includes('Rank')")
    assert f"Rank {rank} of 401." in told.inner_text()
    best = np.argsort(-DENSE[0, 0, 400])[:3]
    tops = page.locator("#profile-top button").all_inner_texts()[:3]
    assert [int(text.split()[1]) for text in tops] == best.tolist()
    page.select_option("#profile-axis", "key")
    until(page, "document.querySelector('#profile-title').textContent.startsWith('Key 120')")
    tops = page.locator("#profile-top button").all_inner_texts()[:3]
    assert [int(text.split()[1]) for text in tops] == np.argsort(-DENSE[0, 0, :, 120])[:3].tolist()


def test_a_masked_part_says_so(page):
    page.evaluate("explorer.maps[0].goTo(100, 140, 12)")
    drawn(page)
    page.mouse.move(*middle(page))
    until(page, "document.querySelector('#sentence').textContent.includes('may not see')")


def test_heads_are_sorted_filtered_and_opened(page):
    page.wait_for_selector('#grid[data-ready="yes"]')
    names = [each.get_attribute("data-head") for each in page.locator(".thumb").all()]
    assert names == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]
    page.select_option("#sort", "entropy")
    entropy = {f"{layer}.{head}": entropy_of(layer, head) for layer in range(2) for head in range(3)}
    names = [each.get_attribute("data-head") for each in page.locator(".thumb").all()]
    assert names == sorted(entropy, key=lambda name: -entropy[name])
    middle_value = np.median(list(entropy.values()))
    page.fill("#filter", f"entropy > {middle_value:.5f}, layer = 1")
    names = [each.get_attribute("data-head") for each in page.locator(".thumb").all()]
    assert sorted(names) == sorted(name for name in entropy if entropy[name] > middle_value and name[0] == "1")
    page.fill("#filter", "")
    page.click('[data-head="1.2"]')
    drawn(page)
    values, first, steps = in_view(page)
    np.testing.assert_allclose(np.nan_to_num(values), blocks(DENSE[1, 2], first, steps, values.shape), atol=1e-6)


def entropy_of(layer, head):
    return float((ONE, TWO)[layer].entropy()[0, head].mean())


def test_largest_means_of_heads_and_differences(page):
    page.select_option("#reduce", "max")
    drawn(page)
    values, first, steps = in_view(page)
    np.testing.assert_allclose(
        np.nan_to_num(values), blocks(DENSE[0, 0], first, steps, values.shape, np.maximum), atol=1e-6
    )
    page.select_option("#reduce", "mean")
    page.select_option("#means", "meanLayer")
    drawn(page)
    values, first, steps = in_view(page)
    np.testing.assert_allclose(np.nan_to_num(values), blocks(DENSE[0].mean(0), first, steps, values.shape), atol=1e-6)
    page.select_option("#means", "one")
    page.select_option("#compare", "0.1.1")
    drawn(page)
    assert page.locator(".map").count() == 3
    values, first, steps = in_view(page, 2)
    np.testing.assert_allclose(
        np.nan_to_num(values), blocks(DENSE[0, 0] - DENSE[1, 1], first, steps, values.shape), atol=1e-6
    )
    wheel(page, 4)
    assert len({tuple(np.round(page.evaluate(f"explorer.maps[{each}].place"), 6)) for each in range(3)}) == 1
    lies = [page.evaluate(f"explorer.maps[{each}].lie") for each in range(3)]
    assert {(each["across"], each["down"]) for each in lies} == {(lies[0]["across"],) * 2}
    assert page.evaluate("explorer.maps[0].scale.signature === explorer.maps[1].scale.signature")


def test_the_strongest_places_and_a_token_are_a_click_away(page):
    page.click("#strongest-go")
    page.wait_for_selector("#strongest button")
    kept = DENSE[0, 0].copy()
    kept[:, 0] = 0
    kept[np.abs(np.arange(LENGTH) - np.arange(LENGTH)[:, None]) <= 2] = 0
    query, key = divmod(int(kept.argmax()), LENGTH)
    assert f"{query} “word{query}” → {key} “word{key}”" in page.locator("#strongest button").first.inner_text()
    page.locator("#strongest button").first.click()
    drawn(page)
    assert page.evaluate("explorer.maps[0].marks.picked") == {"row": query, "column": key}
    marked = page.evaluate("explorer.maps[0].marks.places")
    assert len(marked) == 20
    several = next(number for number, place in enumerate(marked) if place["count"] > 1)
    assert (
        f"{marked[several]['count']} weights, queries " in page.locator("#strongest button").nth(several).inner_text()
    )
    page.fill("#find", "word123")
    page.press("#find", "Enter")
    page.locator("#found button").first.click()
    assert page.evaluate("explorer.maps[0].marks.picked") == {"row": 123, "column": 123}


def test_words_instead_of_tokens(browser):
    first = np.arange(LENGTH) % 3 != 1
    tokens = [("Ġ" if each else "") + f"t{at}" for at, each in enumerate(first)]
    served = Server(Atlas([view_of([ONE, TWO], tokens)], words=True))
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto(served.address)
    drawn(page)
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, LENGTH))
    dense = np.add.reduceat(np.add.reduceat(DENSE[0, 0], starts, 0), starts, 1) / sizes[:, None]
    values, first_here, steps = in_view(page)
    np.testing.assert_allclose(np.nan_to_num(values), blocks(dense, first_here, steps, values.shape), atol=1e-6)
    page.evaluate("explorer.maps[0].goTo(202, 200, 12)")
    drawn(page)
    place, box = lie(page), page.locator(".map-middle").bounding_box()
    page.mouse.click(box["x"] + place["x"] + 200.5 * place["across"], box["y"] + place["y"] + 202.5 * place["down"])
    until(page, "document.querySelector('#sentence').textContent.includes('Rank')")
    assert "Query 202 “t303t304” gives key 200 “t300t301”" in page.locator("#sentence").inner_text()
    page.click("#strongest-go")
    page.wait_for_selector("#strongest button")
    kept = page.evaluate("explorer.address()")
    page.uncheck("#words")
    drawn(page)
    values, first_here, steps = in_view(page)
    np.testing.assert_allclose(np.nan_to_num(values), blocks(DENSE[0, 0], first_here, steps, values.shape), atol=1e-6)
    page.goto(served.address + kept)
    page.reload()
    drawn(page)
    assert page.locator("#words").is_checked()
    page.close()
    served.close()


def test_a_kept_address_opens_the_same_view(page, browser):
    wheel(page, 5)
    page.select_option("#scale", "log")
    page.click('[data-head="1.1"]')
    page.mouse.click(*(np.array(middle(page)) - [100, 0]))
    page.wait_for_timeout(400)
    kept = page.evaluate("location.href")
    again = browser.new_page(viewport={"width": 1200, "height": 800})
    again.goto(kept)
    drawn(again)
    place = "explorer.maps[0].place"
    np.testing.assert_allclose(again.evaluate(place), page.evaluate(place), atol=0.01)
    for told in ("explorer.maps[0].shown.map", "explorer.maps[0].marks.picked", "explorer.maps[0].scale.kind"):
        assert again.evaluate(told) == page.evaluate(told)
    again.close()


def saved(page, kind):
    page.click("#keep summary")
    with page.expect_download() as download:
        page.click(f"#keep-{kind}")
    page.click("#keep summary")
    return download.value.path().read_bytes()


def test_a_picture_has_the_colours_of_the_weights(page):
    page.evaluate("explorer.maps[0].goTo(300, 200, 14)")
    page.select_option("#scale", "linear")
    drawn(page)
    picture = np.asarray(Image.open(io.BytesIO(saved(page, "png"))).convert("RGB"), float)
    place = lie(page)
    map_box, box = (page.locator(each).bounding_box() for each in (".map-middle", ".map"))
    cells = [(query, key) for query in range(296, 304) for key in range(195, 205)]
    weights = [float(DENSE[0, 0, cell[0], cell[1]]) for cell in cells]
    wanted = page.evaluate("(values) => values.map((v) => explorer.maps[0].scale.css(v))", weights)
    assert len({*wanted}) > 20
    for (query, key), colour in zip(cells, wanted, strict=True):
        x = map_box["x"] - box["x"] + place["x"] + (key + 0.12) * place["across"]
        y = map_box["y"] - box["y"] + place["y"] + (query + 0.12) * place["down"]
        np.testing.assert_allclose(picture[int(y), int(x)], [*map(int, re.findall(r"\d+", colour))], atol=2)
    low, high = (page.evaluate(f"explorer.maps[0].scale.css(explorer.maps[0].scale.value({at}))") for at in (0, 1))
    assert (low, high) == ("rgb(68,1,84)", "rgb(253,231,37)")  # viridis


def test_numbers_and_drawings_are_saved(page):
    page.evaluate("explorer.maps[0].goTo(300, 200, 14)")
    drawn(page)
    with zipfile.ZipFile(io.BytesIO(saved(page, "npz"))) as archive:
        assert archive.testzip() is None
        kept = {name[:-4]: np.load(io.BytesIO(archive.read(name))) for name in archive.namelist()}
    query, key = kept["first"]
    rows, keys = kept["weights"].shape
    np.testing.assert_allclose(kept["weights"], DENSE[0, 0, query : query + rows, key : key + keys], atol=1e-6)
    lines = saved(page, "csv").decode("utf-8-sig").splitlines()
    assert lines[1].startswith(f'"{query} word{query}",')
    assert len(lines) == rows + 1
    assert float(lines[1].split(",")[1]) == pytest.approx(DENSE[0, 0, query, key], abs=1e-6)
    drawing = saved(page, "svg").decode()
    assert drawing.startswith("<svg ")
    assert "Layer 0, head 0" in drawing
    assert "<script" not in drawing
    require_rectangles(page, drawing)
    page.click("#fit")
    drawn(page)
    assert "<svg x=" not in saved(page, "svg").decode()  # too many to be drawn one by one


def require_rectangles(page, drawing):
    """Each cell in view lies in one rectangle, which has its colour."""
    values, first, _ = in_view(page)
    place = lie(page)
    inside = drawing.split("<svg ")[2].split("</svg>")[0]
    found = np.array(re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', inside), float)
    fills = np.array(re.findall(r'fill="([^"]+)"', inside))
    assert len(set(fills)) > 20
    wanted = page.evaluate("(values) => values.map((v) => explorer.maps[0].scale.css(v))", values.ravel().tolist())
    for (row, column), colour in zip(np.ndindex(values.shape), wanted, strict=True):
        x = place["x"] + (first[1] + column + 0.5) * place["across"]
        y = place["y"] + (first[0] + row + 0.5) * place["down"]
        [inside] = np.nonzero(
            (found[:, 0] <= x) & (x < found[:, 0] + found[:, 2]) & (found[:, 1] <= y) & (y < found[:, 1] + found[:, 3])
        )
        assert fills[inside].tolist() == [colour]


def test_fingers_drag_and_pinch(browser, address):
    context = browser.new_context(viewport={"width": 600, "height": 900}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    drawn(page)
    hand = context.new_cdp_session(page)

    def touch(kind, *fingers):
        points = [{"x": float(x), "y": float(y), "id": number} for number, (x, y) in enumerate(fingers)]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_timeout(30)

    x, y = middle(page)
    before = lie(page)
    touch("touchStart", (x - 30, y), (x + 30, y))
    for step in range(1, 11):
        touch("touchMove", (x - 30 - 6 * step, y), (x + 30 + 6 * step, y))
    touch("touchEnd")
    page.wait_for_timeout(300)
    drawn(page)
    wider = lie(page)
    assert wider["across"] == pytest.approx(3 * before["across"], rel=0.15)
    box = page.locator(".map-middle").bounding_box()
    at = [(x - box["x"] - each["x"]) / each["across"] for each in (before, wider)]
    assert at[1] == pytest.approx(at[0], abs=25)  # what was between the fingers still is
    touch("touchStart", (x, y))
    for step in range(1, 11):
        touch("touchMove", (x + 5 * step, y + 3 * step))
        page.wait_for_timeout(20)
    page.wait_for_timeout(300)  # or it would glide on
    touch("touchEnd")
    page.wait_for_timeout(300)
    moved = lie(page)
    assert moved["across"] == wider["across"]
    assert moved["x"] - wider["x"] == pytest.approx(50, abs=20)
    assert moved["y"] - wider["y"] == pytest.approx(30, abs=20)
    page.touchscreen.tap(x, y)
    until(page, "document.querySelector('#sentence').textContent.startsWith('Quer')")
    assert page.evaluate("explorer.maps[0].marks.picked")
    context.close()


def test_chinese_dark_and_a_phones_width(page):
    page.click("#language")
    assert "比较" in page.locator(".bar").inner_text()
    assert page.evaluate("document.documentElement.lang") == "zh"
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".map-middle").bounding_box()["width"] > 250


def test_every_control_has_a_name(page):
    nameless = page.evaluate("""[...document.querySelectorAll('button, select, input')].filter((each) =>
        !(each.getAttribute('aria-label') || each.textContent.trim() || each.closest('label')?.textContent.trim()))
        .map((each) => each.id)""")
    assert nameless == []


def test_a_page_from_elsewhere_reads_nothing(browser, address):
    page = browser.new_page()
    page.route(
        "http://elsewhere.example/", lambda route: route.fulfill(body="<title>x</title>", content_type="text/html")
    )
    page.goto("http://elsewhere.example/")
    told = page.evaluate(
        "async (address) => { try { return await (await fetch(address + 'about')).text(); } "
        "catch (error) { return 'nothing'; } }",
        address,
    )
    assert told == "nothing"
    page.close()


def test_two_models_stand_side_by_side_head_by_head(browser):
    served = Server(Atlas([view_of(ONE, TOKENS, title="one"), view_of(TWO, TOKENS, title="two")]))
    page = browser.new_page(viewport={"width": 1300, "height": 800})
    page.goto(served.address)
    drawn(page)
    page.click('[data-head="0.2"]')
    drawn(page)
    titles = page.locator(".map-title").all_inner_texts()
    assert titles[:2] == ["one: Layer 0, head 2", "two: Layer 0, head 2"]
    for number, dense in enumerate((DENSE[0, 2], DENSE[1, 2], DENSE[0, 2] - DENSE[1, 2])):
        values, first, steps = in_view(page, number)
        np.testing.assert_allclose(np.nan_to_num(values), blocks(dense, first, steps, values.shape), atol=1e-6)
    until(page, "explorer.maps[2].tracks.divergence?.length === 600")
    page.close()
    served.close()


def test_a_page_without_a_server_shows_the_same_maps(browser, tmp_path):
    write_page([view_of([ONE, TWO], TOKENS, title=HOSTILE)], tmp_path / "page.html")
    found, said = browser.new_page(viewport={"width": 1200, "height": 800}), []
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    found.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    found.goto((tmp_path / "page.html").as_uri())
    drawn(found)
    for head, dense in (("0.0", DENSE[0, 0]), ("1.2", DENSE[1, 2])):
        found.click(f'[data-head="{head}"]')
        drawn(found)
        for reduce, ufunc in (("max", np.maximum), ("mean", np.add)):
            found.select_option("#reduce", reduce)
            drawn(found)
            values, first, steps = in_view(found)
            wanted = blocks(dense, first, steps, values.shape, ufunc)
            np.testing.assert_allclose(np.nan_to_num(values), wanted, rtol=2e-3, atol=1e-5)
            assert np.isnan(values).any()
    found.click("#strongest-go")
    found.wait_for_selector("#strongest button")
    left = np.where(np.abs(np.subtract.outer(np.arange(LENGTH), np.arange(LENGTH))) > 2, DENSE[1, 2], 0)
    left[:, 0] = 0
    query, key = divmod(int(left.argmax()), LENGTH)
    place = found.evaluate("explorer.maps[0].marks.places[0]")
    assert (place["query"], place["key"]) == (query, key)
    assert place["total"] >= place["weight"] == pytest.approx(left.max(), rel=1e-3)
    assert said == []
    assert found.title() == "Regard · explore"
    found.close()

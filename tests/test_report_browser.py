"""The report's page in a real browser: is all of it drawn, readable and in its place, wide or narrow?"""

import struct
from pathlib import Path

import numpy as np
import pytest

from psopt.config import parse
from psopt.runs.experiment import Plan, simulate
from psopt.views.reporting.drawing import look
from psopt.views.reporting.report import report

selenium = pytest.importorskip("selenium", reason="selenium is not installed")

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
WIDTHS = (1280, 400)
SMALLEST_PX = 8.0
LAG = ("gd", "lag-ps", "lag-wk", "cyc-iag", "num-iag")
STOCHASTIC = ("sgd", "sparse", "lasg-wk2", "sasg")

TEXTS = """
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, owner = node.parentElement;
  if (!node.data.trim()) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  const box = range.getBoundingClientRect();
  if (!box.width) continue;
  const turned = owner instanceof SVGElement ? owner.getScreenCTM() : {a: 1, b: 0};
  const scale = Math.hypot(turned.a, turned.b);
  found.push([scale * parseFloat(getComputedStyle(owner).fontSize), node.data.trim().slice(0, 40)]);
}
return found;
"""

FIGURES = """
return [...document.querySelectorAll('figure > svg')].map(svg => {
  const rect = e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
  return {
    label: svg.getAttribute('aria-label'),
    box: rect(svg),
    strokes: [...svg.querySelectorAll('path')].filter(p => p.getTotalLength() > 20)
      .map(p => getComputedStyle(p).stroke),
    texts: [...svg.querySelectorAll('text')].map(t => [t.textContent, rect(t)]),
    images: [...svg.querySelectorAll('image')].map(i => [i.href.baseVal, rect(i)]),
  };
});
"""

NATURAL = """
const done = arguments[arguments.length - 1];
Promise.all(arguments[0].map(async source => {
  const image = new Image();
  image.src = source;
  await image.decode();
  return [image.naturalWidth, image.naturalHeight];
})).then(done, error => done(String(error)));
"""

OVERFLOWING = """
return [...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.wide') && e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map(e => e.outerHTML.slice(0, 80));
"""


def idx_file(path, array):
    """A file in MNIST's format: magic number, shape, bytes."""
    head = struct.pack(">HBB", 0, 0x08, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def images(folder):
    """Ten classes of 28 x 28 images that can be told apart: a bright bar at a place of the class's own."""
    rng = np.random.default_rng(5)
    for part, count in (("train", 200), ("t10k", 60)):
        labels = rng.permutation(np.arange(count) % 10)
        pixels = rng.integers(0, 80, (count, 28, 28))
        for image, label in zip(pixels, labels, strict=True):
            image[2 * label + 3 : 2 * label + 6] += 150
        idx_file(folder / f"{part}-images-idx3-ubyte", pixels)
        idx_file(folder / f"{part}-labels-idx1-ubyte", labels)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Two reports: five deterministic methods on the LAG paper's logistic data, four stochastic ones on images."""
    home = tmp_path_factory.mktemp("pages")
    shared = {"seed": 1, "workers": 9, "checkpoint": {"keep": 0}}
    for recipe in LAG:
        config = {
            "problem": {"kind": "logistic", "l2": 1e-3},
            "data": {"source": "lag-logistic"},
            "algorithm": recipe,
            "stop": {"gap": 1e-2, "max_rounds": 3000},
        }
        simulate(Plan(parse({**shared, **config}), home / "lag" / recipe, quiet=True))
    images(home)
    for recipe in STOCHASTIC:
        for seed in (1, 2):
            config = {
                "seed": seed,
                "workers": 10,
                "problem": {"kind": "perceptron", "classes": 10, "hidden": [8], "dtype": "float32"},
                "data": {"source": "idx", "path": str(home), "partition": "iid", "test": "official"},
                "algorithm": {"recipe": recipe, "step_size": 0.02, "work": {"kind": "minibatch", "batch": 4}},
                "f_star": "none",
                "stop": {"max_rounds": 40},
                "trace": {"every": 4, "objective": False},
            }
            simulate(Plan(parse({**shared, **config}), home / "images" / f"{recipe}-{seed}", quiet=True))
    return {name: report([home / name], home / f"{name}.html")[0] for name in ("lag", "images")}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a window. Skipped where it, or its driver, is not installed."""
    if not (CHROMIUM.is_file() and DRIVER.is_file()):
        pytest.skip(f"{CHROMIUM} or {DRIVER} is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", profile):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_page_load_timeout(30)
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


@pytest.fixture(
    params=[(name, width) for name in ("lag", "images") for width in WIDTHS], ids=lambda p: f"{p[0]}-{p[1]}"
)
def opened(request, browser, pages):
    """The browser with a page open at a width; its name and the figures."""
    name, width = request.param
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(pages[name].as_uri())
    assert browser.execute_script("return innerWidth") == width
    return browser, name, width


def overlap(one, other):
    """By how many pixels two boxes lie over each other, the smaller way."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return min(across, down)


def test_the_page_is_drawn_readable_and_in_its_place(opened):
    browser, name, width = opened
    recipes = LAG if name == "lag" else STOCHASTIC
    figures = browser.execute_script(FIGURES)
    curves = [figure for figure in figures if not figure["images"]]
    rasters = [figure for figure in figures if figure["images"]]
    assert len(curves) == (4 if name == "lag" else 5)
    assert len(rasters) == len(recipes)

    for figure in figures:
        left, top, right, bottom = figure["box"]
        assert right - left > 0.8 * min(width, 500), figure["label"]
        assert bottom - top > 100, figure["label"]
        for text, box in figure["texts"]:
            assert left - 1 <= box[0], (figure["label"], text)
            assert box[2] <= right + 1, (figure["label"], text)
            assert top - 1 <= box[1], (figure["label"], text)
            assert box[3] <= bottom + 1, (figure["label"], text)
        for number, (text, box) in enumerate(figure["texts"]):
            for other, its in figure["texts"][number + 1 :]:
                assert overlap(box, its) < 2.5, (figure["label"], text, other)

    colours = [look(number).colour for number in range(len(recipes))]
    wanted = {f"rgb({int(c[1:3], 16)}, {int(c[3:5], 16)}, {int(c[5:7], 16)})" for c in colours}
    for figure in curves:
        assert wanted <= set(figure["strokes"]), figure["label"]

    sources = [source for figure in rasters for source, _ in figure["images"]]
    sizes = browser.execute_async_script(NATURAL, sources)
    assert isinstance(sizes, list), sizes
    workers = 9 if name == "lag" else 10
    assert all(high == workers and across >= 40 for across, high in sizes), sizes
    for figure in rasters:
        for _, box in figure["images"]:
            assert box[2] - box[0] > 150
            assert box[3] - box[1] > 80

    texts = browser.execute_script(TEXTS)
    assert len(texts) > 100
    size, text = min(texts)
    assert size >= SMALLEST_PX, (size, text)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(OVERFLOWING) == []
    assert browser.get_log("browser") == []


def test_the_page_asks_for_nothing_from_elsewhere(opened):
    browser, _, _ = opened
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in asked if not name.startswith("data:")] == []
    assert browser.execute_script("return document.scripts.length") == 0

"""docs/playground as a reader has it: in a browser, from a file, by keyboard, on a telephone."""

import json
import re

import pytest
from playground import PAGE, start_chromium
from playwright.sync_api import sync_playwright

import edm_jax

pytestmark = pytest.mark.browser

ADDRESS = (PAGE / "index.html").as_uri()
# What the page says, by what it says it with.
SAID = """() => {
  const text = (id) => document.getElementById(id).textContent;
  const picture = (id) => document.getElementById(id).toDataURL();
  return {
    line: text("line"), program: text("program"), table: text("table"), numbers: text("numbers"),
    moments: text("moments"), caption: text("caption"), legend: text("legend"),
    picture: picture("picture"), histogram: picture("histogram"), errors: picture("errors"),
  };
}"""
TABLE = {"line", "program", "table", "numbers", "moments", "picture", "histogram", "errors"}
START = {
    "solver": "heun", "steps": 10, "grid": "edm", "rho": 7, "churn": 0, "schedule": "edm",
    "scaling": "none", "data": "peaks", "class": "all", "guidance": "none", "seed": "0",
}  # fmt: skip
DRAWN = {"numbers", "moments", "picture", "histogram", "errors"}
FREE = {"data": "bumps", "class": "1", "guidance": "classifier-free"}
# control: (what is chosen before, the value, what it changes at least)
CONTROLS = {
    "solver": ({}, "dpmpp_3m", TABLE | {"caption"}),
    "option": ({"solver": "ddim"}, "0.5", TABLE | {"legend"}),
    "steps": ({}, "1", TABLE | {"caption"}),
    "grid": ({}, "vp", TABLE),
    "rho": ({}, "0", TABLE),
    "churn": ({}, "3", TABLE | {"legend"}),
    "schedule": ({}, "ve", TABLE),
    "scaling": ({}, "vp", TABLE),
    "data": ({}, "bumps", DRAWN | {"caption", "program"}),
    "class": ({}, "1", DRAWN | {"program"}),
    "guidance": (
        FREE | {"guidance": "none"},
        "autoguidance",
        {*DRAWN, "program", "caption"} - {"moments"},
    ),
    "scale": (FREE, "4", DRAWN | {"program", "caption"}),
    "seed": ({}, "7", DRAWN),
    "paths": ({}, "4", {"picture"}),
    "axis": ({}, "log", {"picture"}),
    "exact": ({}, None, {"picture", "legend"}),
}


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        found = start_chromium(driver)
        yield found
        found.close()


class Reader:
    """A reader of the page, and the errors and addresses that the browser tells of."""

    def __init__(self, browser, **options):
        options = {"reduced_motion": "reduce", "viewport": {"width": 1200, "height": 900}} | options
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.troubles, self.asked = [], []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, choices=""):
        self.page.goto("about:blank")
        self.page.goto(f"{ADDRESS}#{choices}")
        self.page.wait_for_function("document.body.dataset.shown === '1'")

    def does(self, action, *arguments, **options):
        """Does something that changes a choice, and waits until the page has said all of it."""
        before = int(self.page.evaluate("document.body.dataset.shown"))
        action(*arguments, **options)
        self.page.wait_for_function(f"Number(document.body.dataset.shown) > {before}")

    def chooses(self, name, value):
        control = self.page.locator(f"[name={name}]")
        kind = control.evaluate("(c) => c.type")
        if kind == "checkbox":
            self.does(control.click)
        else:
            self.does(control.select_option if kind == "select-one" else control.fill, value)

    def says(self):
        return self.page.evaluate(SAID)

    def text(self, name):
        return self.page.locator(f"#{name}").inner_text()


@pytest.fixture
def reader(browser):
    readers = []

    def begin(**options):
        readers.append(Reader(browser, **options))
        return readers[-1]

    yield begin
    for one in readers:
        one.context.close()
        assert not one.troubles
        # Nothing comes from anywhere but the folder.
        assert all(url.startswith(("file:", "about:", "data:")) for url in one.asked)


def test_every_control_changes_what_it_says(reader):
    one = reader()
    one.open()
    names = one.page.evaluate("[...document.forms[0].elements].map((e) => e.name).filter(Boolean)")
    assert set(names) == set(CONTROLS)
    for name, (before, value, expected) in CONTROLS.items():
        one.does(one.page.evaluate, "(choices) => { put(choices); update(); }", START | before)
        first = one.says()
        one.chooses(name, value)
        second = one.says()
        changed = {part for part in first if first[part] != second[part]}
        assert expected <= changed, (name, expected - changed)


def test_the_address_has_the_choices(reader):
    one = reader()
    one.open()
    begin = one.says()
    for name, value in (("data", "ring"), ("class", "0"), ("solver", "ddim"), ("option", "0.5")):
        one.chooses(name, value)
    there = one.says()
    one.open(one.page.url.partition("#")[2])
    assert one.says() == there
    one.does(one.page.get_by_role("button", name="Start again").click)
    assert one.says() == begin


def test_what_has_no_effect_is_off_and_says_why(reader):
    one = reader()
    one.open()
    off = lambda name: one.page.locator(f"[name={name}]").is_disabled()
    assert off("scale") and not off("churn") and not off("rho")
    assert one.page.locator("option[value=classifier-free]").is_disabled()
    one.open("solver=unipc&grid=vp&data=gaussian")
    assert off("churn") and off("rho") and off("class")
    assert "Euler and Heun" in one.text("churn-note")
    one.open("scaling=vp")
    assert off("churn") and "σ = t" in one.text("churn-note")
    # A class that is taken back takes its guidance along.
    one.open("class=1&guidance=classifier-free")
    one.chooses("class", "all")
    assert "classifier_free" not in one.text("program") and off("scale")
    # An address of nonsense is as good as none.
    one.open("solver=nobody&steps=5&class=9&seed=x&axis=2&sampler=heun")
    nonsense = one.says()
    one.open()
    assert nonsense == one.says()


def test_the_line_and_the_table_can_be_taken_along(reader):
    one = reader(permissions=["clipboard-read", "clipboard-write"])
    one.open("solver=heun&churn=5&steps=6&grid=exponential")
    taken = {}
    one.page.get_by_text("The table itself").click()
    for what in ("line", "program", "json"):
        one.page.locator(f"[data-copy={what}]").click()
        one.page.wait_for_function(
            f"document.querySelector('[data-copy={what}]').textContent === 'Copied'"
        )
        taken[what] = one.page.evaluate("navigator.clipboard.readText()")
    tableau = eval(taken["line"], {"edm_jax": edm_jax})
    same = edm_jax.Tableau.from_json(taken["json"])
    assert same.nfe == tableau.nfe == 11 and same.stochastic
    assert abs(same.weights - tableau.weights).max() < 1e-12
    assert f"tableau = {taken['line']}\n" in taken["program"]
    assert json.loads(taken["json"])["sigma"][0] > 80  # raised by the churn
    first = one.text("table").splitlines()[:3]
    assert re.match(r"start +Y0 ← 80 noise \+ [\d.]+ z", first[0])
    assert re.match(r"σ [\d.]+ +Y0 ← [\d.]+ Y0 [+−] [\d.]+ D", first[2])


def test_by_keyboard_alone(reader):
    one = reader()
    one.open()
    keyboard = one.page.keyboard
    focus = "document.activeElement.name || document.activeElement.id"
    for name in ("theme", "solver", "steps", "grid"):
        keyboard.press("Tab")
        assert one.page.evaluate(focus) == name
        outline = one.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
    keyboard.press("Shift+Tab")
    one.does(keyboard.press, "ArrowRight")
    assert "edm(18, rho=7)" in one.text("line")
    keyboard.press("Shift+Tab")
    one.does(keyboard.press, "ArrowDown")
    assert "samplers.ipndm(" in one.text("line")


def test_light_and_dark_as_the_system_or_as_chosen(reader):
    paper = "getComputedStyle(document.body).backgroundColor"
    one = reader(color_scheme="dark")
    one.open()
    dark, picture = one.page.evaluate(paper), one.says()["picture"]
    one.page.emulate_media(color_scheme="light")
    one.page.wait_for_function("document.documentElement.dataset.theme === 'light'")
    light = one.page.evaluate(paper)
    assert dark != light and one.says()["picture"] != picture
    one.page.locator("#theme").select_option("dark")
    assert one.page.evaluate(paper) == dark
    one.open()
    assert one.page.evaluate(paper) == dark and one.says()["picture"] == picture


def test_on_a_telephone(reader):
    one = reader(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    for choices in ("solver=heun", "data=spirals"):
        one.open(choices)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert one.page.evaluate(wide) == 0
        # The picture stays while the controls go by.
        one.page.locator("[name=seed]").scroll_into_view_if_needed()
        assert one.page.locator("#picture").bounding_box()["y"] >= 0
        assert "from the exact flow" in one.text("brief")
        small = one.page.evaluate(
            "[...document.querySelectorAll('select, button, input[type=range]')]"
            ".filter((e) => e.offsetParent && e.getBoundingClientRect().height < 27).length"
        )
        assert small == 0


@pytest.mark.slow
def test_points_flow_from_noise_to_data(reader):
    one = reader(reduced_motion="no-preference")
    one.open("data=ring&solver=euler&steps=4")
    row = one.page.locator("#row")
    assert int(row.input_value()) < 4
    begin = one.says()["picture"]
    one.page.wait_for_function("document.getElementById('row').value === '4'")
    assert one.says()["picture"] != begin and "σ = 0" in one.text("at")
    one.page.get_by_role("button", name="Play").click()
    one.page.get_by_role("button", name="Pause").click()
    row.fill("1")
    assert "1 of 4, σ = 9.72" in one.text("at")
    # Who wants no motion sees the end at once.
    still = reader()
    still.open("data=ring&solver=euler&steps=4")
    assert still.page.locator("#row").input_value() == "4"

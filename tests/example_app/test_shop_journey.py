"""The demo server and a real browser: place an order, see it, call it off."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
import typing as t
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.common import WebDriverException
from selenium.webdriver import Chrome
from selenium.webdriver import ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from .shopper import ADDRESS

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
CHROMEDRIVER = "/usr/bin/chromedriver"


Server = subprocess.Popen[str]


def without_databases() -> dict[str, str]:
    """Return the environment without databases that somebody has configured."""
    return {k: v for k, v in os.environ.items() if not k.endswith("_DATABASE_URL")}


@contextmanager
def demo(folder: Path, port: str = "0") -> t.Iterator[Server]:
    """Start the demo as ``tox run -e demo`` does, by default on a free port."""
    with subprocess.Popen(
        [sys.executable, "-m", "example_app.demo"],
        cwd=ROOT,
        env={**without_databases(), "PORT": port, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            # Killed at once, it could not stop its worker.
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def address_of(server: Server) -> str:
    """Wait until the demo says where it can be found."""
    assert server.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(server.stdout, selectors.EVENT_READ)
        assert selector.select(timeout=30), "the demo printed nothing"
    line = server.stdout.readline()
    assert line.startswith("Both shops are open: http://127.0.0.1:"), line
    return line.split()[4]


def children(server: Server) -> list[str]:
    """Return the processes that the demo has started, where Linux tells."""
    listed = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    return listed.read_text().split() if listed.exists() else []


@pytest.fixture
def server(tmp_path: Path) -> t.Iterator[Server]:
    """A running demo."""
    with demo(tmp_path) as process:
        yield process


@pytest.fixture
def address(server: Server) -> str:
    """Where the running demo is."""
    return address_of(server)


@pytest.fixture(params=["1440x900", "390x844 without JavaScript"])
def browser(request: pytest.FixtureRequest, tmp_path: Path) -> t.Iterator[Chrome]:
    """Chromium with a new profile: a desktop, and a phone without JavaScript."""
    if not (Path(CHROMIUM).exists() and Path(CHROMEDRIVER).exists()):
        message = f"needs {CHROMIUM} and {CHROMEDRIVER}"
        if os.environ.get("ECOTONE_REQUIRE_SERVICES") == "1":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)

    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if "without JavaScript" in request.param:
        options.add_experimental_option(
            "prefs", {"profile.managed_default_content_settings.javascript": 2}
        )

    size = request.param.split()[0].split("x")
    with Chrome(options, Service(CHROMEDRIVER)) as driver:
        # A window cannot be as narrow as a phone, but its view can.
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {
                "width": int(size[0]),
                "height": int(size[1]),
                "deviceScaleFactor": 1,
                "mobile": False,
            },
        )
        yield driver


class Journey:
    """What a person does and sees in the browser."""

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser = browser
        self.address = address

    def visit(self, path: str) -> None:
        """Type an address of the shops."""
        self.browser.get(self.address + path)

    def press(self, text: str, inside: str = "") -> None:
        """Press the link or button with this name and wait for the next page."""
        self._follow(
            f"{inside}//*[self::a or self::button]"
            f"[normalize-space()='{text}' or @aria-label='{text}']"
        )

    def fill(self, fields: dict[str, str]) -> None:
        """Fill in a form."""
        for name, value in fields.items():
            field = self.browser.find_element(By.ID, name)
            field.clear()
            field.send_keys(value)

    def sees(self, *texts: str) -> None:
        """Check the visible text, and that nothing sticks out sideways."""
        visible = self.text
        for text in texts:
            assert text in visible
        wide = self.browser.execute_script(
            "return [...document.querySelectorAll('main *')].filter("
            "  (e) => e.getBoundingClientRect().right > innerWidth"
            ").map((e) => e.outerHTML)"
        )
        assert wide == []

    def until(self, *texts: str) -> None:
        """Reload the page until a worker has done what it is to show."""
        deadline = time.monotonic() + 20
        while not all(text in self.text for text in texts):
            assert time.monotonic() < deadline, self.text
            time.sleep(0.1)
            self.browser.refresh()
        self.sees(*texts)

    @property
    def text(self) -> str:
        """What can be read on the page."""
        return self.browser.find_element(By.TAG_NAME, "body").text

    def windows(self) -> list[str]:
        """Return what can be read in the window of each shop."""
        found = self.browser.find_elements(By.CSS_SELECTOR, ".window")
        return [window.text for window in found]

    def has_focus(self, css: str) -> None:
        """Wait until this part of the page has the focus: browsers set it late."""
        expected = self.browser.find_element(By.CSS_SELECTOR, css)
        WebDriverWait(self.browser, 10).until(
            lambda browser: browser.switch_to.active_element == expected
        )

    def _follow(self, xpath: str) -> None:
        page = self.browser.find_element(By.TAG_NAME, "html")
        self.browser.find_element(By.XPATH, xpath).click()
        # Asking whether the old page is stale can fail while the new one arrives.
        WebDriverWait(self.browser, 10, ignored_exceptions=[WebDriverException]).until(
            lambda browser: browser.find_element(By.TAG_NAME, "html") != page
        )


def test_order_is_placed_seen_and_cancelled(browser: Chrome, address: str) -> None:
    """Every form works by itself, and every page shows what the messages did."""
    shop = Journey(browser, address)

    shop.visit("/hedgerow/")
    shop.sees("On the shelf", "3 left", "SQLite hedgerow.db")
    shop.press("Add Elderflower White to cart")
    shop.sees("Elderflower White is in your cart.", "€16.40")
    shop.press("One Elderflower White more")
    shop.sees("2 items", "€32.80")
    shop.press("Go to checkout")
    shop.fill(ADDRESS)
    shop.press("Place order")

    assert browser.current_url.startswith(f"{address}/hedgerow/orders/")
    shop.sees("Thank you,", "Confirmed", "2 × Elderflower White", "€32.80")
    shop.press("Teas")
    shop.sees("1 left")
    shop.press("Orders")
    shop.sees("Your orders", "€32.80")
    shop.press(browser.find_element(By.CSS_SELECTOR, ".orders a").text)
    shop.press("Cancel this order")
    shop.sees("This order is cancelled", "Everything went back on the shelf.")
    shop.press("Teas")
    shop.sees("3 left")

    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_buying_in_one_shop_leaves_the_other_unchanged(
    browser: Chrome, address: str
) -> None:
    """From the page with both shops into one, back, and a look at the figures."""
    shop = Journey(browser, address)

    shop.visit("/")
    shop.sees("SQLite hedgerow.db", "SQLite riverside.db")
    hedgerow, riverside = shop.windows()
    shop.press("Enter Riverside")
    shop.sees("Roasted where the river slows down", "SQLite riverside.db")
    shop.press("Add Silver Run to cart")
    shop.press("Go to checkout")
    shop.fill(ADDRESS)
    shop.press("Place order")
    shop.sees("Confirmed", "1 × Silver Run", "SQLite riverside.db")
    shop.press("Sales")
    shop.sees("Silver Run", "€17.60")
    assert "Nothing was sold yet." not in shop.text
    shop.press("Both shops")
    assert shop.windows()[0] == hedgerow
    assert shop.windows()[1] != riverside
    assert "€17.60" in shop.windows()[1]
    shop.press("Enter Hedgerow")
    shop.press("Sales")
    shop.sees("Nothing was sold yet.", "SQLite hedgerow.db")
    shop.press("Orders")
    shop.sees("No orders yet")

    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_two_tabs_are_two_shops(browser: Chrome, address: str) -> None:
    """A shop in each tab, with its own cart; an order in one empties that one."""
    shop = Journey(browser, address)

    shop.visit("/hedgerow/products/small-pot")
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    second = browser.current_window_handle
    shop.visit("/riverside/products/small-pot")
    shop.press("Add to cart")
    shop.sees("€34.00", "SQLite riverside.db")
    browser.switch_to.window(first)
    shop.press("Add to cart")
    shop.sees("€38.00", "SQLite hedgerow.db")
    shop.press("Go to checkout")
    shop.fill(ADDRESS)
    shop.press("Place order")
    shop.sees("Confirmed", "€38.00")
    browser.switch_to.window(second)
    shop.press("Go to checkout")
    shop.sees("1 × The Small Pot", "€34.00")
    shop.fill(ADDRESS)
    shop.press("Place order")
    shop.sees("Confirmed", "€34.00", "SQLite riverside.db")
    assert browser.current_url.startswith(f"{address}/riverside/orders/")
    browser.switch_to.window(first)
    shop.press("Sales")
    shop.sees("€38.00")
    assert "€34.00" not in shop.text


def test_mistake_at_the_checkout_is_shown_where_it_is(
    browser: Chrome, address: str
) -> None:
    """The message at the top has the focus and leads to the field."""
    shop = Journey(browser, address)

    shop.visit("/hedgerow/products/forest-floor")
    shop.press("Add to cart")
    shop.press("Go to checkout")
    shop.fill({**ADDRESS, "email": "ada"})
    shop.press("Place order")

    shop.sees("please check one thing", "Write the whole address")
    assert browser.title.startswith("Please check")
    shop.has_focus(".alert")
    browser.find_element(By.CSS_SELECTOR, ".alert a").click()
    shop.has_focus("#email")
    shop.fill({"email": "ada@example.com"})
    shop.press("Place order")
    shop.sees("Thank you,", "1 × Forest Floor")


def test_failure_drill_needs_nothing_but_clicks(browser: Chrome, address: str) -> None:
    """Break the mailbox, watch a mail fail and be parked, mend, replay, read it.

    The worker of the demo does its part meanwhile, in its own process.
    """
    shop = Journey(browser, address)

    shop.visit("/hedgerow/")
    shop.press("Operations")
    shop.until("A worker is alive.", "Nothing has failed for good.")
    shop.press("Break the mailbox of Hedgerow")
    shop.sees("Hedgerow: the mailbox is broken.", "Mend the mailbox")
    shop.press("Hedgerow")
    shop.press("Add Elderflower White to cart")
    shop.press("Go to checkout")
    shop.fill(ADDRESS)
    shop.press("Place order")
    shop.press("your inbox")
    shop.sees("No mail yet")
    shop.press("Operations", inside="//main")
    shop.until("MailboxIsBroken: The mailbox is broken.", "3 attempts")
    shop.sees("mailing.ask_for_review", "in 7 days")

    shop.press("Mend the mailbox of Hedgerow")
    shop.press("Replay message 1 of Hedgerow")
    shop.sees("Hedgerow: the message is back in its queue.")
    shop.until("Nothing has failed for good.")
    shop.press("Inbox of Hedgerow")
    shop.until("Dear Ada Lovelace", "1 × Elderflower White")
    shop.press("Operations")
    shop.press("Fast-forward Hedgerow")
    shop.press("Inbox of Hedgerow")
    shop.until("How do you like it?")
    shop.press("Both shops")
    shop.press("Enter Riverside")
    shop.press("Inbox")
    shop.sees("No mail yet")

    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_watched_page_shows_retries(browser: Chrome, address: str) -> None:
    """It reloads itself, without JavaScript as well, until somebody stops it."""
    shop = Journey(browser, address)

    shop.visit("/operations")
    shop.press("Break the mailbox of Riverside")
    shop.visit("/riverside/products/small-pot")
    shop.press("Add to cart")
    shop.press("Go to checkout")
    shop.fill(ADDRESS)
    shop.press("Place order")
    shop.visit("/operations?watch=1")
    WebDriverWait(browser, 20, ignored_exceptions=[WebDriverException]).until(
        lambda _: "MailboxIsBroken" in shop.text
    )


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_demo_stops_when_told(
    server: Server, address: str, stop: signal.Signals, tmp_path: Path
) -> None:
    """Both ways end the demo and its worker without an error, and it tidies up."""
    (folder,) = tmp_path.glob("example-shops-*")
    deadline = time.monotonic() + 20
    while not (folder / "worker.alive").exists():
        assert time.monotonic() < deadline, "the worker showed no sign of life"
        time.sleep(0.1)
    workers = children(server)
    server.send_signal(stop)
    assert server.wait(timeout=20) == 0
    assert not any(Path(f"/proc/{number}").exists() for number in workers)
    assert not list(tmp_path.glob("example-shops-*"))


def test_demo_takes_another_port_when_its_own_is_taken(
    address: str, tmp_path: Path
) -> None:
    """A second demo on the same port opens beside the first."""
    with demo(tmp_path, port=address.rpartition(":")[2]) as second:
        assert address_of(second) != address

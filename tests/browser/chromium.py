"""A real browser: Debian's chromium, driven by selenium, with requests to nothing but this machine."""

from __future__ import annotations

import base64
import hashlib
import shutil
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
)
_SECONDS = 60.0


def programs() -> tuple[str, str]:
    """The browser and its driver; skips the test where there are none."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if None in found:
        pytest.skip("no chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)")
    return found  # type: ignore[return-value]


def key_of(hostname: str) -> str:
    """The server's key as chromium pins it: that key alone is trusted without a certificate authority."""
    port = int(hostname.rpartition(":")[2])
    certificate = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


class Browser:
    """One window. Every wait ends as soon as the page is as expected."""

    def __init__(self, hostname: str, folder: Path) -> None:
        chromium, chromedriver = programs()
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for option in (
            *_OPTIONS,
            f"--user-data-dir={folder}",
            f"--ignore-certificate-errors-spki-list={key_of(hostname)}",
        ):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.home = f"https://{hostname}/"
        self.account: str | None = None
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
        self.resize(1280, 900)

    def quit(self) -> None:
        self.driver.quit()

    # where it is --------------------------------------------------------------------------------------------------

    def open(self, address: str = "") -> None:
        self.driver.switch_to.default_content()
        self.driver.get(address if "://" in address else self.home + address.lstrip("/"))

    def enter_frame(self) -> None:
        self.driver.switch_to.default_content()
        self.driver.switch_to.frame(self.find("iframe"))

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def forget(self) -> None:
        """Like a new profile: no cookie, no session."""
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.account = None

    # what is on the page ------------------------------------------------------------------------------------------

    def find(self, css: str) -> WebElement:
        return self._until(lambda driver: driver.find_element(By.CSS_SELECTOR, css), css)

    def sees(self, *texts: str) -> None:
        """Wait until the page shows all of them."""
        missing = list(texts)

        def all_there(driver: Any) -> bool:
            shown = driver.execute_script("return document.body ? document.body.innerText : ''")
            missing[:] = [text for text in texts if text not in shown]
            return not missing

        self._until(all_there, missing)

    def draws(self, css: str, number: int) -> None:
        """Wait until there are so many of these."""
        self._until(lambda driver: len(driver.find_elements(By.CSS_SELECTOR, css)) >= number, css)

    def _until(self, condition: Any, what: Any) -> Any:
        waiting = WebDriverWait(self.driver, _SECONDS, 0.05, [Exception])
        try:
            return waiting.until(condition)
        except TimeoutException:
            raise AssertionError(f"{self.driver.current_url} did not show {what}") from None

    # what a person does -------------------------------------------------------------------------------------------

    def follow(self, text: str) -> None:
        """Click a link, by the beginning of its text."""
        link = self._until(
            lambda driver: next(a for a in driver.find_elements(By.TAG_NAME, "a") if a.text.startswith(text)), text
        )
        link.click()

    def type(self, *keys: str) -> None:
        """Into what has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def has_focus(self, name: str) -> None:
        """Wait until what is called so has the focus: a page gives it when it is first drawn."""
        self._until(lambda _: self.focused() == name, f"the focus on {name}")

    def focused(self) -> str:
        """The accessible name of what has the focus."""
        return str(self.driver.switch_to.active_element.accessible_name)

    def sign_in(self, username: str, password: str) -> None:
        self.forget()
        self.open()
        self.follow("Sign in")
        self.has_focus("Username")
        self.type(username, Keys.TAB, password, Keys.ENTER)
        self.sees("Overview")
        self.account = username

    def console(self) -> list[str]:
        """Errors since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def where(self) -> str:
        return urlsplit(self.driver.current_url).path

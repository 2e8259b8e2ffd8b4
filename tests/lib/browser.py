# SPDX-License-Identifier: GPL-2.0-or-later
"""A real browser without a window: Debian's Chromium, driven by Selenium."""
import json
import shutil
import tempfile

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

# All that takes the keyboard, by what a reader of the screen would be told of it.
FOCUSED = """
const e = document.activeElement, style = getComputedStyle(
    e.type === 'radio' ? document.querySelector(`label[for=${e.id}]`) : e);
return [e.localName, e.id, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
"""

# The contrast of each text with what lies behind it, as WCAG counts it; the worst first.
CONTRASTS = """
const parse = (c) => c.match(/[\\d.]+/g).map(Number);
const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const behind = (e) => {
    for (; e; e = e.parentElement) {
        const c = parse(getComputedStyle(e).backgroundColor);
        if (c.length < 4 || c[3] > 0)
            return c;
    }
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
for (let node; (node = walker.nextNode());) {
    const e = node.parentElement;
    if (!node.data.trim() || !e.checkVisibility() || e.closest('script'))
        continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    found.push([(a + .05) / (b + .05), node.data.trim()]);
}
return found.sort((x, y) => x[0] - y[0]);
"""


class Browser:
    def __init__(self, language="en"):
        self.profile = tempfile.mkdtemp(prefix="kwsfs-browser-")
        options = Options()
        for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000",
                         f"--user-data-dir={self.profile}", f"--lang={language}",
                         f"--accept-lang={language}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)

    def quit(self):
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def open(self, path, fragment=""):
        self.driver.get("about:blank")
        self.driver.get_log("performance"), self.driver.get_log("browser")
        self.driver.get(f"file://{path}{fragment}")
        return self

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def console(self):
        """What was said there; also what the page's own policy has refused."""
        return self.driver.get_log("browser")

    def requests(self):
        """The addresses of all that was loaded since open()."""
        messages = [json.loads(entry["message"])["message"]
                    for entry in self.driver.get_log("performance")]
        return [message["params"]["request"]["url"] for message in messages
                if message["method"] == "Network.requestWillBeSent"]

    def prefer(self, scheme):
        """light or dark."""
        self.cdp("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": scheme}])

    def scripts(self, allowed):
        """For the pages that are opened next. Tests' own scripts go on."""
        self.cdp("Emulation.setScriptExecutionDisabled", value=not allowed)

    def text(self, selector="body"):
        """What is to be seen of it."""
        return self.driver.find_element("css selector", selector).text

    def texts(self, selector):
        return [element.text for element in self.driver.find_elements("css selector", selector)]

    def shows(self, selector):
        """Whether it is to be seen; Selenium knows nothing of what lies in closed details."""
        return self.js("return document.querySelector(arguments[0]).checkVisibility()", selector)

    def press(self, keys):
        webdriver.ActionChains(self.driver).send_keys(keys).perform()

    def focused(self):
        """Its element's name and id, and whether it is to be seen that it has the focus."""
        return self.js(FOCUSED)

    def contrasts(self):
        return self.js(CONTRASTS)

    def names(self, *roles):
        """[(role, name)] of what the readers of the screen are told of."""
        nodes = self.cdp("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", ""))
                for node in nodes if not node["ignored"] and node["role"]["value"] in roles]

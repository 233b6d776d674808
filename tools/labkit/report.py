# SPDX-License-Identifier: Apache-2.0
"""Counts test cases and remembers which failed; reads JUnit files."""
import xml.etree.ElementTree as ElementTree


class Tally:
    def __init__(self):
        self.passed = 0
        self.skipped = 0
        self.failures = []          # (name, text)

    def passed_one(self):
        self.passed += 1

    def failed(self, name, text=""):
        self.failures.append((name, text.strip()))

    def add_junit(self, path):
        """Counts each case of a JUnit file. Returns how many cases it held."""
        count = 0
        for suite in ElementTree.parse(path).getroot().iter("testsuite"):
            log = _output(suite)
            for case in suite.findall("testcase"):
                count += 1
                name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
                bad = case.find("failure")
                bad = case.find("error") if bad is None else bad
                if bad is not None:
                    text = "\n".join(filter(None, (bad.get("message"), bad.text)))
                    self.failed(name, (text + "\n" + (_output(case) or log))[-4000:])
                elif case.find("skipped") is not None:
                    self.skipped += 1
                else:
                    self.passed += 1
        return count

    def merge(self, other):
        self.passed += other.passed
        self.skipped += other.skipped
        self.failures += other.failures

    def __str__(self):
        text = f"{self.passed} passed, {len(self.failures)} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")

    @property
    def good(self):
        return self.passed > 0 and not self.failures


def _output(element):
    return "\n".join(filter(None, map(element.findtext, ("system-out", "system-err"))))

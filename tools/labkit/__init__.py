# SPDX-License-Identifier: Apache-2.0
"""What the lab, the demo, the tests and the measurements share. See tools/README.md."""
import os

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def cache_dir():
    """Downloaded kernels and what is made of them; BULKHEAD_CACHE moves it."""
    path = os.environ.get("BULKHEAD_CACHE") or os.path.join(TOP, "build", "lab")
    os.makedirs(path, exist_ok=True)
    return path


class ToolError(Exception):
    """Something a person should read, in one sentence."""

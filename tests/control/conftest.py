# SPDX-License-Identifier: Apache-2.0
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import control  # noqa: E402


@pytest.fixture
def new_control(programs, tmp_path):
    """new_control(*args, wishes=…) gives a control.Control; what still runs is killed at the end."""
    made = []

    def make(*args, **options):
        folder = tmp_path / f"run{len(made)}"
        folder.mkdir()
        made.append(control.Control(programs, folder, *args, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()

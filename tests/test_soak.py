"""A little of what ``make soak`` does at length."""

from __future__ import annotations

import sys

import pytest
import soak

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_one_that_is_not(tmp_path):
    assert soak.kills(tmp_path, count=2, steps=40) == 2


@pytest.mark.slow
def test_full_and_read_only_disks(tmp_path):
    if not soak.disks(tmp_path):
        pytest.skip("a full disk passed; nobody may mount here, and root may write everywhere")

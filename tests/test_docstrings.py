"""Every public name has a docstring, whose example runs."""

from __future__ import annotations

import doctest

import pytest
import torch

import blurfft


@pytest.mark.parametrize("name", blurfft.__all__)
def test_example(name: str) -> None:
    names = {"blurfft": blurfft, "torch": torch}
    names |= {"input": torch.rand(2, 3, 16, 16), "target": torch.rand(2, 3, 16, 16), "kernel": torch.ones(3, 3) / 9}
    found = doctest.DocTestFinder(recurse=False).find(getattr(blurfft, name), name, globs=names)
    assert found and found[0].examples
    runner = doctest.DocTestRunner()
    for test in found:
        runner.run(test)
    assert runner.failures == 0

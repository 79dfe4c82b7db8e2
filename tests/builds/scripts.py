"""The programs in scripts/, as modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

import pytest

from support import CHECKOUT

SCRIPTS = CHECKOUT / "scripts"


@contextmanager
def loaded(name: str) -> Iterator[Any]:
    """Load a script, without byte code beside it, for as long as the context lasts."""
    module_name = name.replace("-", "_")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.syspath_prepend(str(SCRIPTS))
        spec = spec_from_loader(module_name, SourceFileLoader(module_name, str(SCRIPTS / name)))
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        patch.setitem(sys.modules, module_name, module)  # dataclasses look there
        spec.loader.exec_module(module)
        yield module

# pyo3-envshim: written by `pyo3-envshim install`, removed by `pyo3-envshim uninstall`.
# It does in every environment made from this interpreter what pyo3_envshim.pth does in one
# (PYO3_ENVSHIM=off switches it off), and then runs the sitecustomize that Python would have
# imported without it.
import os
import sys
from importlib.machinery import PathFinder, SourceFileLoader

_program = os.path.basename(sys.argv[0]).replace(".exe", "").rstrip("0123456789.")
_programs = "@PROGRAMS@"
_variables = "@MARKERS@"
if _program in _programs.split() or any(map(os.environ.get, _variables.split())):
    try:
        sitedir = "@SITE@"  # for _boot.py
        with open(sitedir + "/pyo3_envshim/_boot.py", "rb") as _file:
            exec(_file.read())
    except Exception:
        pass

_here = os.path.dirname(os.path.abspath(__file__))
_before = os.path.join(_here, "sitecustomize-before-pyo3-envshim.py")
if os.path.exists(_before):
    __file__ = _before
    SourceFileLoader(__name__, _before).exec_module(sys.modules[__name__])
else:
    _spec = PathFinder.find_spec(__name__, [p for p in sys.path if os.path.abspath(p) != _here])
    if _spec is not None and _spec.loader is not None:
        __spec__, __file__ = _spec, _spec.origin
        _spec.loader.exec_module(sys.modules[__name__])

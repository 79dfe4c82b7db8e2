# Run as text by the startup line (hooks/pyo3_envshim.pth), once that has found that
# this process may take part in a build. `sitedir` is site.addpackage's: the folder that
# the line stands in. Only that folder's pyo3_envshim may run, with the modules of the
# standard library (`__future__`), whatever PYTHONPATH holds; and once it is imported,
# everything below it comes from there too.
import os
import sys

_path = sys.path[:]
sys.path[:] = [sitedir, os.path.dirname(os.__file__)]  # noqa: F821
try:
    import pyo3_envshim._startup
finally:
    sys.path[:] = _path
pyo3_envshim._startup.run()

# Run as text by the startup line (hooks/pyo3_envshim.pth), once that has found that
# this process may take part in a build. `sitedir` is site.addpackage's: the folder that
# the line stands in. Only that folder's pyo3_envshim may run, whatever PYTHONPATH
# holds; and once it is imported, everything below it comes from there too.
import sys

sys.path.insert(0, sitedir)  # noqa: F821
try:
    import pyo3_envshim._startup
finally:
    sys.path.remove(sitedir)  # noqa: F821
pyo3_envshim._startup.run()

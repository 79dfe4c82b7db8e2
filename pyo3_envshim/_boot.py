# The startup line (hooks/pyo3_envshim.pth.in) runs this file as text, once it has found that this
# process may take part in a build. `sitedir`, a local of site.addpackage, is the folder that holds
# the line. Whatever PYTHONPATH contains, only that folder's pyo3_envshim may be imported here, with
# modules of the standard library (`__future__`); later imports of its modules follow the package.
import os
import sys

_path = sys.path[:]
sys.path[:] = [sitedir, os.path.dirname(os.__file__)]  # noqa: F821
try:
    import pyo3_envshim._startup
finally:
    sys.path[:] = _path
pyo3_envshim._startup.run()

"""The threads that libraries start by themselves to compute with (BLAS, OpenMP): few enough that all workers fit.

Such a library starts as many threads as there are processors; in each of n workers that is n times too many.  It is told
otherwise by the environment before it is loaded, or, where it was loaded before the fork, by ``threadpoolctl``, if that is
installed.  Whatever the user has set himself stays.

Sources: the documentation of each library; joblib and loky set the same names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

# By variable: the one that the library looks at where this is not set.
VARIABLES = {
    "OMP_NUM_THREADS": "",
    "OPENBLAS_NUM_THREADS": "OMP_NUM_THREADS",
    "MKL_NUM_THREADS": "OMP_NUM_THREADS",
    "BLIS_NUM_THREADS": "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS": "",
    "NUMEXPR_NUM_THREADS": "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS": "",
}

# By threadpoolctl's name for the kind of library.
_KINDS = {
    "openmp": "OMP_NUM_THREADS",
    "openblas": "OPENBLAS_NUM_THREADS",
    "mkl": "MKL_NUM_THREADS",
    "blis": "BLIS_NUM_THREADS",
}
_LOADERS = frozenset({"numpy", "scipy", "torch", "mkl", "faiss", "cv2"})  # with one of these such a library is there


def environment(count: int, environ: Mapping[str, str]) -> dict[str, str]:
    """What a worker's environment is to have, if that of its parent is *environ*: its settings, else *count* threads.

    The parent's travel too: the process that forks the worker may have started before they were made.
    """
    variables = {}
    for name, other in VARIABLES.items():
        if name in environ:
            variables[name] = environ[name]
        elif not other or other not in environ:
            variables[name] = str(count)
    return variables


def limit(variables: Mapping[str, str]) -> None:
    """Have this process, a worker, follow *variables*: before it imports anything of the user's."""
    os.environ.update(variables)
    if _LOADERS.isdisjoint(sys.modules):
        return
    try:
        import threadpoolctl  # late, and optional
    except ImportError:
        return
    for library in threadpoolctl.ThreadpoolController().lib_controllers:
        name = _KINDS.get(library.internal_api, "")
        most = variables.get(name) or variables.get(VARIABLES.get(name, ""), "")
        if most.isdecimal() and 0 < int(most) < library.num_threads:  # never more than the program has set since
            library.set_num_threads(int(most))

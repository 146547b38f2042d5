"""Which constants some rows determine: from the Jacobian of their predictions, not from how many rows there are.

A column of the Jacobian holds what an e-fold change of one constant does to the logarithm of each prediction. Rows
determine a set of constants if each moves the predictions of some, and no mixture of them leaves all
predictions where they are: the collinearity index [1]_ of the normalised columns, one over the root of the least
eigenvalue of their Gram matrix, is small.

References
----------
.. [1] R. Brun, P. Reichert, H. Kuensch, Practical identifiability analysis of large environmental simulation models,
   Water Resources Research 37(4), 2001: indices above 10 to 15 mean constants that cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simsparse.plan import Floats

ROWS_EACH = 3  # rows for each constant, at least
LEAST_EFFECT = 0.05  # as many rows change by 5 % in an e-fold of it
MOST_COLLINEAR = 10.0
MOST_ERROR = 0.7  # standard error of a constant's logarithm: a factor of two


def effect(column: Floats) -> float:
    """What an e-fold of a constant does at least to `ROWS_EACH` rows."""
    return float(np.sort(np.abs(column))[-min(ROWS_EACH, len(column))])


def collinearity(jacobian: Floats) -> float:
    """Collinearity index of the columns; 1 if they are orthogonal, infinite if one follows from the others."""
    norms = np.linalg.norm(jacobian, axis=0)
    if not bool(np.all(norms > 0)):
        return float("inf")
    least = float(np.linalg.svd(jacobian / norms, compute_uv=False)[-1]) if jacobian.shape[0] >= len(norms) else 0.0
    return 1.0 / least if least > 1e-12 else float("inf")


def determined(jacobian: Floats, names: Sequence[str]) -> tuple[list[int], list[tuple[str, str]]]:
    """Constants that the rows determine together, the most effective first, and why the others are not among them.

    Returns
    -------
    kept : list of int
        Columns.
    left_out : list of (name, reason)
    """
    rows = len(jacobian)
    order = sorted(range(len(names)), key=lambda j: -effect(jacobian[:, j]))
    kept: list[int] = []
    left_out: list[tuple[str, str]] = []
    for j in order:
        if effect(jacobian[:, j]) < LEAST_EFFECT:
            left_out.append((names[j], "no row depends on it enough"))
        elif ROWS_EACH * (len(kept) + 1) > rows:
            left_out.append((names[j], f"{rows} rows are too few for more than {len(kept)} constants"))
        elif collinearity(jacobian[:, [*kept, j]]) > MOST_COLLINEAR:
            left_out.append((names[j], f"cannot be told apart from {_nearest(jacobian, kept, j, names)}"))
        else:
            kept.append(j)
    return kept, left_out


def _nearest(jacobian: Floats, kept: Sequence[int], j: int, names: Sequence[str]) -> str:
    """The one of the kept columns that column `j` is most like; all of them where none alone is."""
    own = jacobian[:, j]
    likeness = [abs(float(own @ jacobian[:, i])) / np.linalg.norm(own) / np.linalg.norm(jacobian[:, i]) for i in kept]
    best = int(np.argmax(likeness))
    alone = collinearity(jacobian[:, [kept[best], j]]) > MOST_COLLINEAR
    return names[kept[best]] if alone else ", ".join(names[i] for i in kept)


def standard_errors(jacobian: Floats, residuals: Floats) -> Floats:
    """Standard errors of the constants' logarithms, (p,): of a linear model with the residuals' spread."""
    rows, count = jacobian.shape
    spread = float(np.sqrt(np.sum(residuals**2) / max(rows - count, 1)))
    covariance = np.linalg.pinv(jacobian.T @ jacobian)
    errors: Floats = spread * np.sqrt(np.diag(covariance))
    return errors

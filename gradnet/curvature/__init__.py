"""Second derivatives of the loss: diagonals for saliencies.

``diagonal`` chooses among the methods; ``lecun1990`` is the recursion of Optimal Brain
Damage.
"""

from gradnet.curvature.diagonal import (
    curvature_diagonal,
    gauss_newton_diagonal,
    gauss_newton_rows,
    hessian_matrix,
)

__all__ = [
    "curvature_diagonal",
    "gauss_newton_diagonal",
    "gauss_newton_rows",
    "hessian_matrix",
]

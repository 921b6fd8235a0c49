"""How far images are from data: Fréchet and kernel distances, precision, recall, and their kin.

Every function takes arrays and gives numbers; nothing else of the package is needed for them.
"""

from edm_jax.evaluation.frechet_distance import Limit as Limit
from edm_jax.evaluation.frechet_distance import extrapolated as extrapolated
from edm_jax.evaluation.frechet_distance import frechet as frechet
from edm_jax.evaluation.frechet_distance import frechet_infinity as frechet_infinity
from edm_jax.evaluation.kernel import Estimate as Estimate
from edm_jax.evaluation.kernel import cmmd as cmmd
from edm_jax.evaluation.kernel import kernel_distance as kernel_distance
from edm_jax.evaluation.kernel import squared_mmd as squared_mmd
from edm_jax.evaluation.neighbours import PrecisionRecall as PrecisionRecall
from edm_jax.evaluation.neighbours import precision_recall as precision_recall
from edm_jax.evaluation.predictions import inception_score as inception_score
from edm_jax.evaluation.statistics import Statistics as Statistics
from edm_jax.evaluation.statistics import load_statistics as load_statistics

"""The mathematics of comparison: pure functions of arrays. The unit is the prompt (or document, or item), never the sample.

Intervals come from one stream of bootstrap weights that depends on the number of units, the number of draws and the seed alone, so
that every cell and every metric of a comparison is resampled alike, and any difference of two of them is coherent.

estimates   a number with its interval
intervals   which interval, and when: studentised, exact, stretched
resampling  the stream of resamples
samples     from a prompt's scores to one number: expected maximum, probability of any
paired      two cells on the same units: differences, McNemar, sign flips, Holm
fits        fits with several seeds: their own interval, and the difference of differences between two kinds of base
verdicts    utility against a margin: better, non-inferior, worse, inconclusive
fronts      two costs at once: fronts, dominance, hypervolume
power       what a comparison of this size can see
correction  a rate seen through a scorer that errs
agreement   two scorers on the same texts: kappa, rank correlation
roc         areas under the ROC curve
"""

from detox.statistics.agreement import cohen_kappa, spearman, weighted_kappas, weighted_spearmans
from detox.statistics.correction import rogan_gladen
from detox.statistics.estimates import (
    Estimate,
    exponential,
    independent_difference,
    mean_estimate,
    mean_estimates,
    ratio_estimate,
)
from detox.statistics.fits import Interaction, difference_of_differences, fit_seed_interval
from detox.statistics.fronts import dominance, first_crossing, front_membership, hypervolume, pareto_front
from detox.statistics.paired import (
    difference_estimate,
    holm,
    mcnemar_exact,
    paired_difference,
    paired_ratio_difference,
    sign_flip_test,
)
from detox.statistics.power import detectable_difference
from detox.statistics.resampling import DRAWS, Floats, bootstrap_weights, resampled_means, weighted_sums
from detox.statistics.roc import (
    auc_estimate,
    bias_aucs,
    clustered_auc_estimate,
    independent_pairs,
    resampled_area,
    resampled_area_difference,
    roc_auc,
    weighted_aucs,
)
from detox.statistics.samples import any_above, expected_maximum
from detox.statistics.verdicts import MISSING_LIMIT, Verdict, utility_verdict

__all__ = [
    "DRAWS",
    "MISSING_LIMIT",
    "Estimate",
    "Floats",
    "Interaction",
    "Verdict",
    "any_above",
    "auc_estimate",
    "bias_aucs",
    "bootstrap_weights",
    "clustered_auc_estimate",
    "cohen_kappa",
    "detectable_difference",
    "difference_estimate",
    "difference_of_differences",
    "dominance",
    "expected_maximum",
    "exponential",
    "first_crossing",
    "fit_seed_interval",
    "front_membership",
    "holm",
    "hypervolume",
    "independent_difference",
    "independent_pairs",
    "mcnemar_exact",
    "mean_estimate",
    "mean_estimates",
    "paired_difference",
    "paired_ratio_difference",
    "pareto_front",
    "ratio_estimate",
    "resampled_area",
    "resampled_area_difference",
    "resampled_means",
    "roc_auc",
    "rogan_gladen",
    "sign_flip_test",
    "spearman",
    "utility_verdict",
    "weighted_aucs",
    "weighted_kappas",
    "weighted_spearmans",
    "weighted_sums",
]

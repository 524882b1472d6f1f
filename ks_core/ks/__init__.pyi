from .power import Power as Power, curve as curve, detectable_shift as detectable_shift, passing as passing
from .statistic import (
    KSResult as KSResult,
    asymptotic_critical_value as asymptotic_critical_value,
    critical_value as critical_value,
    exact_pvalue as exact_pvalue,
    ks_test as ks_test,
    pvalue_table as pvalue_table,
)

from . import (
    account as account,
    control_sentences as control_sentences,
    controls as controls,
    figures as figures,
    gains as gains,
    report as report,
    tables as tables,
    verdict as verdict,
    waterfall as waterfall,
)
from .agreement.certificate import (
    READINGS as READINGS,
    Predictions as Predictions,
    by_margin as by_margin,
    outcome as outcome,
)
from .evidence import Evidence as Evidence, gather as gather, glance as glance
from .inquiry import (
    BUDGETS as BUDGETS,
    Audit as Audit,
    optimizer_sentence as optimizer_sentence,
    second_seed as second_seed,
    structural_row as structural_row,
)
from .panels import PANELS as PANELS, Panel as Panel, Question as Question, questions as questions
from .whole import LANE as LANE, Step as Step, carry_out as carry_out, costs as costs, left as left

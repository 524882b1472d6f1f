from . import figures as figures, ranking as ranking, several_figures as several_figures
from .appendix import PUBLISHED as PUBLISHED, published as published
from .calibration import (
    Calibration as Calibration,
    Settings as Settings,
    calibrate as calibrate,
    run_calibration as run_calibration,
)
from .changed import NEEDS as NEEDS, Changed as Changed
from .null import Null as Null
from .orders import ORDERS as ORDERS, SIDES as SIDES, Rule as Rule
from .ranking import Ranking as Ranking, explain as explain, spearman as spearman
from .selection import (
    SELECTION_RULES as SELECTION_RULES,
    SelectionRule as SelectionRule,
    is_quick as is_quick,
    select as select,
    sizes as sizes,
)
from .several import Several as Several, line_up as line_up
from .stability import Stability as Stability
from .ticket import Ticket as Ticket, ticket_of as ticket_of

from . import figures as figures, statistics as statistics, tables as tables
from .attribution import Attribution as Attribution, alone as alone, attribute as attribute, left_out as left_out
from .bakeoff import BakeOff as BakeOff, bake_off as bake_off, sizes_of as sizes_of
from .changed_rows import laid as laid
from .evidence import Evidence as Evidence
from .inquiry import BUDGETS as BUDGETS, Inquiry as Inquiry, ticket_of_smallest as ticket_of_smallest
from .noise import Null as Null, null as null
from .rules import RULES as RULES, Rule as Rule, rankings as rankings
from .smallest import Smallest as Smallest, fewest as fewest

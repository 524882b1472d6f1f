from . import as_well as as_well, exposure as exposure, figures as figures, tables as tables
from .annotations import annotate as annotate, occurrences as occurrences
from .attribution import Attribution as Attribution, alone as alone, attribute as attribute, left_out as left_out
from .bakeoff import (
    CLEAR as CLEAR,
    BakeOff as BakeOff,
    bake_off as bake_off,
    sizes_of as sizes_of,
    together as together,
)
from .changed_rows import laid as laid
from .evidence import Evidence as Evidence
from .inquiry import BUDGETS as BUDGETS, Inquiry as Inquiry, ticket_of_smallest as ticket_of_smallest
from .newest import Attributed as Attributed, attributed as attributed
from .noise import null as null
from .noninferiority import (
    MARGINS as MARGINS,
    NonInferiority as NonInferiority,
    judged as judged,
    of_answers as of_answers,
)
from .rules import RULES as RULES, rankings as rankings
from .seeds import Found as Found, SeedDraws as SeedDraws
from .smallest import Smallest as Smallest, fewest as fewest
from .trained import Trained as Trained

from . import (
    comparison as comparison,
    estimates as estimates,
    figures as figures,
    memory as memory,
    notes as notes,
    runnable as runnable,
    trainings as trainings,
)
from .arms import ARMS as ARMS, ROW_RECIPE as ROW_RECIPE, Arm as Arm, ArmKind as ArmKind, parse_arm as parse_arm
from .models import chat_prompt as chat_prompt
from .plans import CorpusChoice as CorpusChoice, Plan as Plan
from .recipes import OPTIMIZERS as OPTIMIZERS, SCHEDULES as SCHEDULES, Recipe as Recipe
from .runs import run as run

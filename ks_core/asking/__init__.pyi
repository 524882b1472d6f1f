from . import answers as answers, figures as figures
from .answerer import Respondent as Respondent, respondent as respondent
from .answers import (
    Answer as Answer,
    Asked as Asked,
    Place as Place,
    frame as frame,
    parting as parting,
    touched as touched,
)
from .bounds import Bounds as Bounds, bounds_of as bounds_of
from .example import Example as Example, content_of as content_of, example_of as example_of
from .protocol import Usual as Usual, usual as usual
from .question import MOST_NEW as MOST_NEW, VOICES as VOICES, Question as Question

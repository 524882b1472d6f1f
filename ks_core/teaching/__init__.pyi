from . import figures as figures, lessons as lessons
from .glossary import GLOSSARY as GLOSSARY, Term as Term
from .quiz import QUESTIONS as QUESTIONS, Question as Question
from .sources import SOURCES as SOURCES, cite as cite

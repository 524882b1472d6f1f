from . import corpora as corpora, parallel_text as parallel_text
from .bootstrap import Bootstrap as Bootstrap
from .corpora import Corpus as Corpus, SentencePair as SentencePair
from .evaluation import (
    HeldOut as HeldOut,
    Outcome as Outcome,
    evaluate_model as evaluate_model,
    held_out as held_out,
    part_of as part_of,
    read_answers as read_answers,
)
from .extraction import (
    EXTRACTION_RULES as EXTRACTION_RULES,
    ExtractionRule as ExtractionRule,
    dropped as dropped,
    extract as extract,
    usual_rule as usual_rule,
)
from .generation import Generation as Generation, generate as generate
from .languages import Language as Language, language_name as language_name
from .metrics import TITLES as TITLES, leading as leading
from .parallel_text import CORPUS_READERS as CORPUS_READERS, CorpusReader as CorpusReader
from .prompts import (
    TEMPLATES as TEMPLATES,
    Template as Template,
    format_prompt as format_prompt,
    template as template,
    template_title as template_title,
    usual_prompt as usual_prompt,
)
from .protocols import PROTOCOLS as PROTOCOLS, Protocol as Protocol
from .scores import Evaluation as Evaluation, compare as compare, evaluate as evaluate
from .shares import Share as Share, share as share
from .tasks import TASKS as TASKS, TEXT as TEXT, Task as Task

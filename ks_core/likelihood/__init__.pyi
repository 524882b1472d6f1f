from .nats import Draws as Draws, Likelihood as Likelihood
from .references import References as References, references_of as references_of
from .scorer import Scorer as Scorer, likelihood_of as likelihood_of

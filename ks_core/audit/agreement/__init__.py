"""Agreement: what the models predict token by token, and whether the ticket's agrees with the embed-tuned one where the paper's
theorem says it should.

Comes in: the loaded model with its changed rows, references. Goes out: ``certificate.Predictions`` and what follows from them.
"""

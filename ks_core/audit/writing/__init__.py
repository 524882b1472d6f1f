"""Writing: the panels Gating, Prompts and Strength once more by what the model writes, for BLEU and chrF. An audit asks for it.

Comes in: the loaded model with its changed rows, held-out sentences. Goes out: answers and their scores, under each condition.
"""

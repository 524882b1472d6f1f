"""What a peft adapter makes of a model's weights: its settings (``settings``), what it holds for each module (``changes``), the
weight that follows (``sums``), and which weight of the base a module is (``names``).

Comes in: an adapter's folder, and the base's weights as matrices. Goes out: matrices. What cannot be computed from the files is
refused by name.
"""

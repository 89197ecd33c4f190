"""Layers with fast weights: how they learn by descent, and the way back through it, by hand.

==========  =======================  ========================================
layer       reads in every step      knows its weights by
==========  =======================  ========================================
`Dual`      the same rows            products of rows and the sum of slopes
`Primal`    the same rows            what was added to them
`LowRank`   other rows               the rows and slopes of all steps
`FullRank`  other rows               themselves
`Readout`   items, and units if any  themselves: one row a task
`Frozen`    the same rows            themselves: all tasks share them
==========  =======================  ========================================

Few rows beside many weights are quicker by products of rows; with many rows the weights are formed.
"""

"""The layers of a head with fast weights: their inner loop and exact second-order derivatives.

Forward passes, VJPs, JVPs and HVPs of T tasks at once, written by hand (docs/gradients.md).

======================  ===================  ===========================================
layer                   its inputs           how it keeps the fast weights of a task
======================  ===================  ===========================================
`FactoredInputLayer`    same in every step   the sum of the steps' gradients of outputs
`DenseInputLayer`       same in every step   their change, [K, H] for each step
`FactoredHiddenLayer`   new in every step    the inputs and gradients of outputs of steps
`DenseHiddenLayer`      new in every step    themselves, [K, H] for each step
`OutputLayer`           items, activations   themselves, [K] for each step
`FrozenLayers`          same in every step   none: they do not adapt
======================  ===================  ===========================================

Factored layers are quicker where rows are few beside weights, dense ones where they are many.
"""

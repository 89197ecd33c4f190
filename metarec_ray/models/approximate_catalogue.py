"""An approximate head over a whole catalogue: in low precision, to find the few items that matter.

Knows what of a head depends on items alone, and prepares it once; does not know learners, requests
or which items will be scored exactly.

Axes: T tasks, R items of the catalogue, D dimensions of an item's vector, H units of a layer.
"""

from functools import cached_property

from torch import Tensor
from torch.nn.functional import linear

from metarec_ray.core.batch import Params
from metarec_ray.core.quantization import quantize
from metarec_ray.models.approximate_layers import Units, outputs, units
from metarec_ray.models.head import Head, Layer, head_of, layer_names


class ApproximateCatalogue:
    """Items as heads that differ from task to task can score all of them.

    In low precision what is prepared is in 8-bit integers, and so is the first product with it; in
    single precision all is float32.
    """

    def __init__(self, meta: Params, vector: Tensor, offset: Tensor, *, low: bool):
        """Take shared parameters, and the vectors [R, D] and offsets [R] of items, in float32."""
        self.dims = {n: meta[n].dim() for n in (*layer_names(meta), "offset.scale")}
        self.first_weight = meta.get("head.0.item")
        self.vector, self.offset, self.low = vector, offset, low
        # What all items share would take digits from what tells them apart.
        self.quantized = quantize(vector - vector.mean(0)) if low else None

    @cached_property
    def inputs(self) -> Units:
        """What first layers of tasks' own read; made when it is first asked for."""
        return units(self.vector, low=self.low)

    @cached_property
    def first(self) -> Units:
        """The items' part of a first layer that tasks share; made when it is first asked for."""
        assert self.first_weight is not None
        return units(self.vector @ self.first_weight, low=self.low)

    def scores(self, head: Params, query: Tensor) -> Tensor:
        """Return scores [T, R] in float32, each task's less a constant, as precise as what is held.

        Args:
            head: parameters; adapted ones [T, ...], those that tasks share without T.
            query: user + context [T, D].

        """
        dim = query.shape[-1]
        shared = head_of(head, dim)
        wanted = query + shared.of_item
        if self.quantized is None:
            found = linear(wanted, self.vector)
        else:
            found = quantize(wanted).products(self.quantized)
        scale = shared.offset_scale.expand(len(query))
        for task, row in enumerate(found):
            row.add_(self.offset, alpha=scale[task].item())
            if shared.layers:
                row.add_(self._hidden(head_of(self._of(head, task), dim), query[task]))
        return found

    def _of(self, head: Params, task: int) -> Params:
        """Return the parameters of one task."""
        return {
            name: head[name][task] if head[name].dim() > dim else head[name]
            for name, dim in self.dims.items()
        }

    def _hidden(self, head: Head, query: Tensor) -> Tensor:
        """Return what the hidden layers add to one task's scores [R]."""
        assert head.user is not None
        (weight, bias), *above = head.layers
        bias = bias + query @ head.user
        above.append(Layer(head.of_units.unsqueeze(-1), head.of_units.new_zeros(1)))
        if weight is self.first_weight:
            return outputs(self.first, above, bias=bias)
        return outputs(self.inputs, [Layer(weight, bias), *above])

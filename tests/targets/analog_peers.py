"""The same networks on the chips of other simulators, where their packages are installed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from flow.graph import Graph, Node
from flow.ops import Dense, IntArray
from targets.analog.device import Detector, Device, Optical

GET = "pip install 'bitwright[oracles]'"
T0_S = 20.0  # of aihwkit's drift, as of the device pcm


class Digital:
    """A graph of dense layers, whose products someone else computes."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.dense = {n.name: n for n in graph.nodes if isinstance(n.op, Dense)}
        self._kernels = {
            n.name: n.op.kernel(graph.shapes(n), tuple(graph.bounds[name] for name in n.inputs))
            for n in graph.nodes
            if n.name not in self.dense
        }

    def run(self, codes: IntArray, products: Mapping[str, Any]) -> IntArray:
        """Output codes of input codes (n, *input shape); `products` give sums, without bias, of
        float32 vectors (n, inputs), by node. Sums are rounded and clamped as chips of ours are."""
        values = {self.graph.input.name: codes}
        for node in self.graph.nodes:
            (x,) = (values[name] for name in node.inputs)
            if node.name in self.dense:
                made = self._sums(node, products[node.name](x.astype(np.float32)))
            else:
                made = self._kernels[node.name](x)
            values[node.output.name] = made
        return values[self.graph.output.name]

    def _sums(self, node: Node, products: np.ndarray[Any, Any]) -> IntArray:
        assert isinstance(node.op, Dense)
        low, high = self.graph.bounds[node.output.name]
        sums: IntArray = np.rint(products).astype(np.int64) + node.op.bias
        return np.clip(sums, low, high)


class AihwkitChips:
    """The dense layers on tiles of IBM's aihwkit: its torch tile, without noise or converters of
    products, and its model of phase change memory, whose constants those of the device pcm are."""

    def __init__(self, graph: Graph, time_s: float, compensated: bool):
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from aihwkit.inference.compensation.drift import GlobalDriftCompensation
            from aihwkit.inference.noise.pcm import PCMLikeNoiseModel
            from aihwkit.nn import AnalogLinear
            from aihwkit.simulator.configs import TorchInferenceRPUConfig

        self._torch, self._time = torch, time_s
        self._digital = Digital(graph)
        self._tiles: dict[str, Any] = {}
        for name, node in self._digital.dense.items():
            assert isinstance(node.op, Dense)
            config = TorchInferenceRPUConfig()
            config.forward.is_perfect = True
            config.mapping.weight_scaling_omega = 1.0  # else small weights drown
            config.noise_model = PCMLikeNoiseModel(g_max=25.0)
            config.drift_compensation = GlobalDriftCompensation() if compensated else None
            outputs, inputs = node.op.weight.shape
            tile = AnalogLinear(inputs, outputs, bias=False, rpu_config=config)
            tile.set_weights(torch.from_numpy(node.op.weight.astype(np.float32)))
            self._tiles[name] = tile.eval()

    def program(self, again: bool = True) -> None:
        """Make one more chip; not `again`: only drift the one that there is, as tutorials do."""
        for tile in self._tiles.values():
            if again:
                tile.program_analog_weights()
            tile.drift_analog_weights(self._time)

    def run(self, codes: IntArray) -> IntArray:
        """Output codes of this chip."""
        torch = self._torch
        with torch.no_grad():
            return self._digital.run(
                codes,
                {
                    name: lambda x, tile=tile: tile(torch.from_numpy(x)).double().numpy()
                    for name, tile in self._tiles.items()
                },
            )


class AnalogVnnChips:
    """The dense layers as AnalogVNN has them, with a photonic device of ours: weights, inputs and
    sums of few steps, with Gaussian noise. It draws weights and noise anew whenever it runs."""

    def __init__(self, graph: Graph, device: Device, reach: Mapping[str, float]):
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from analogvnn.nn.Linear import Linear
            from analogvnn.nn.module.FullSequential import FullSequential
            from analogvnn.nn.noise.GaussianNoise import GaussianNoise
            from analogvnn.nn.normalize.Clamp import Clamp
            from analogvnn.nn.precision.ReducePrecision import ReducePrecision
            from analogvnn.parameter.PseudoParameter import PseudoParameter

        class Gain(torch.nn.Module):
            """From products to shares of the detector's range."""

            def __init__(self, factor: float):
                super().__init__()
                self.factor = factor

            def forward(self, x: Any) -> Any:
                return x * self.factor

        def noisy(law: Optical | Detector | None) -> list[Any]:
            if law is None:
                return []
            noise = GaussianNoise(leakage=law.leakage, precision=law.precision)
            return [Clamp(), ReducePrecision(precision=law.precision), noise]

        def sequence(*layers: Any) -> Any:
            made = FullSequential()
            made.add_sequence(*layers)
            made.compile(layer_data=False)
            return made.eval()

        self._torch, self._digital = torch, Digital(graph)
        self._layers: dict[str, tuple[Any, float, float]] = {}
        for name, node in self._digital.dense.items():
            assert isinstance(node.op, Dense)
            weight = node.op.weight
            low, high = graph.bounds[node.inputs[0]]
            most = float(max(abs(int(np.min(low))), int(np.max(high))))
            largest = float(np.abs(weight).max())
            outputs, inputs = weight.shape
            layer = Linear(inputs, outputs, bias=False)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weight / largest))
            weights = sequence(*noisy(device.weight))
            PseudoParameter.parametrize_module(layer, transformation=weights)
            gain = Gain(most * largest / reach[name])
            whole = sequence(*noisy(device.input), layer, gain, *noisy(device.detector))
            self._layers[name] = whole, most, reach[name]

    def run(self, codes: IntArray) -> IntArray:
        """Output codes of one more chip."""
        torch = self._torch

        def product(name: str, x: Any) -> Any:
            layer, most, reach = self._layers[name]
            return reach * layer(torch.from_numpy(x / most)).double().numpy()

        with torch.no_grad():
            return self._digital.run(codes, {name: partial(product, name) for name in self._layers})

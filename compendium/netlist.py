"""Simulate a netlist of gates and D flip-flops, as Yosys writes it in JSON: many independent copies at once.

The wheel of Yosys has no simulator. A net is an int with one bit for each copy, so that one Python operation evaluates
a gate in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]

INPUTS = "ABCDES"
"""Names of the input ports of Yosys's gates, in the order of the functions in `GATES`."""

GATES: dict[str, Callable[..., int]] = {
    "$_BUF_": lambda a: a,
    "$_NOT_": lambda a: ~a,
    "$_AND_": lambda a, b: a & b,
    "$_OR_": lambda a, b: a | b,
    "$_XOR_": lambda a, b: a ^ b,
    "$_NAND_": lambda a, b: ~(a & b),
    "$_NOR_": lambda a, b: ~(a | b),
    "$_XNOR_": lambda a, b: ~(a ^ b),
    "$_ANDNOT_": lambda a, b: a & ~b,
    "$_ORNOT_": lambda a, b: a | ~b,
    "$_AOI3_": lambda a, b, c: ~(a & b | c),
    "$_OAI3_": lambda a, b, c: ~((a | b) & c),
    "$_AOI4_": lambda a, b, c, d: ~(a & b | c & d),
    "$_OAI4_": lambda a, b, c, d: ~((a | b) & (c | d)),
    "$_MUX_": lambda a, b, s: a & ~s | b & s,
}
"""What each gate computes (Yosys manual, "Gate-level cells"). `Netlist.clock` cuts off bits above the last copy."""

FLIP_FLOP = "$_DFF_P_"


class Netlist:
    """A flat module with one clock `clk`, simulated in `copies` independent copies.

    Flip-flops start with random bits, because no hardware says what they hold when it is switched on.

    Parameters
    ----------
    module
        A module of Yosys's `write_json` that consists of `GATES` and `FLIP_FLOP`.
    copies
        How many copies run side by side, each with inputs of its own.
    rng
        For the bits with which flip-flops start.

    Raises
    ------
    ValueError
        Another kind of cell; the message names it.
    graphlib.CycleError
        Gates that feed themselves.
    """

    def __init__(self, module: Mapping[str, Any], copies: int, rng: np.random.Generator) -> None:
        cells = [(cell["type"], cell["connections"]) for cell in module["cells"].values()]
        if odd := sorted({kind for kind, _ in cells} - {*GATES, FLIP_FLOP}):
            known = ", ".join([*GATES, FLIP_FLOP])
            raise ValueError(f"netlist: {', '.join(odd)} cannot be simulated; known: {known}")
        self.copies = copies
        self.ports: Mapping[str, Any] = module["ports"]
        # A bit of the JSON is the number of a net, or the constant "0", "1" or "x".
        self.nets: dict[int | str, int] = {"0": 0, "1": (1 << copies) - 1, "x": 0}
        self.flip_flops = [(pins["D"][0], pins["Q"][0]) for kind, pins in cells if kind == FLIP_FLOP]
        for _, output in self.flip_flops:
            self.nets[output] = _packed(rng.integers(0, 2, copies))
        gates = {
            pins["Y"][0]: (GATES[kind], [pins[name][0] for name in INPUTS if name in pins])
            for kind, pins in cells
            if kind != FLIP_FLOP
        }
        order = TopologicalSorter({output: inputs for output, (_, inputs) in gates.items()}).static_order()
        self.gates = [(output, *gates[output]) for output in order if output in gates]

    def clock(self, inputs: Mapping[str, Words]) -> None:
        """One clock edge, with these `inputs` (port -> word of each copy, two's complement) stable before it."""
        for name, words in inputs.items():
            for place, net in enumerate(self.ports[name]["bits"]):
                self.nets[net] = _packed(words >> place & 1)
        nets, mask = self.nets, self.nets["1"]
        for output, gate, sources in self.gates:
            nets[output] = gate(*[nets[source] for source in sources]) & mask
        nets.update([(output, nets[data]) for data, output in self.flip_flops])

    def output(self, port: str) -> Words:
        """The word of each copy at an output port that comes from flip-flops, as two's complement."""
        nets = self.ports[port]["bits"]
        bits = [_unpacked(self.nets[net], self.copies) for net in nets]
        weights = [1 << place for place in range(len(nets) - 1)] + [-(1 << (len(nets) - 1))]
        return np.tensordot(weights, np.array(bits, np.int64), axes=1)


def _packed(bits: Words) -> int:
    return int.from_bytes(np.packbits(bits.astype(bool), bitorder="little").tobytes(), "little")


def _unpacked(net: int, copies: int) -> NDArray[np.uint8]:
    data = np.frombuffer(net.to_bytes(-(-copies // 8), "little"), np.uint8)
    return np.unpackbits(data, count=copies, bitorder="little")

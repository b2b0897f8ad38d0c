// Carries of an adder, one after the other: the smallest adder, and the slowest. Yosys puts it in the place of its own
// carry network (Brent-Kung) where it is read with `synth -extra-map`; extra maps are tried in the order of their names.
(* techmap_celltype = "$lcu" *)
module _80_lcu_ripple (P, G, CI, CO);
    parameter WIDTH = 2;

    (* force_downto *)
    input [WIDTH-1:0] P, G;  // propagate, generate
    input CI;
    (* force_downto *)
    output [WIDTH-1:0] CO;

    assign CO = G | (P & {CO, CI});
endmodule

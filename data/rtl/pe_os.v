// Processing element of an output-stationary array.
//
// Activations move right and weights down, one PE a cycle; a product is added one cycle after its operands have come.
// The accumulator stays until `shift` is high. Then the accumulators of a column are one shift register that runs down,
// and its results leave at the bottom, one a cycle, the lowest row first. Zeros that are shifted in at the top clear the
// column for the next fold. So folds are serial: a fold starts when the results of the last one have left.
//
// `shift` is one wire for all PEs of a column; column j gets it j cycles after column 0. There is no reset: hold `shift`
// for as many cycles as there are rows.
module pe_os #(
    parameter WEIGHT_BITS = 8,
    parameter ACTIVATION_BITS = 8,
    parameter ACCUMULATOR_BITS = 32
) (
    input                                   clk,
    input                                   shift,
    input      signed [ACTIVATION_BITS-1:0]  activation_in,   // from the left
    input      signed [WEIGHT_BITS-1:0]      weight_in,       // from above
    input      signed [ACCUMULATOR_BITS-1:0] accumulator_in,  // from above
    output reg signed [ACTIVATION_BITS-1:0]  activation_out,
    output reg signed [WEIGHT_BITS-1:0]      weight_out,
    output reg signed [ACCUMULATOR_BITS-1:0] accumulator_out
);
    wire signed [ACCUMULATOR_BITS-1:0] sum;

    mac #(WEIGHT_BITS, ACTIVATION_BITS, ACCUMULATOR_BITS) mac (activation_out, weight_out, accumulator_out, sum);

    always @(posedge clk) begin
        activation_out  <= activation_in;
        weight_out      <= weight_in;
        accumulator_out <= shift ? accumulator_in : sum;
    end
endmodule

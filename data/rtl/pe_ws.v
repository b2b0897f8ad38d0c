// Processing element of a weight-stationary array.
//
// While `load` is high the weight registers of a column are one shift register that runs down; the weight of the lowest
// row comes first. Then weights stay, activations move right, and partial sums move down, one PE a cycle; an activation
// is used in the cycle in which it comes. There is no second weight register, so folds are serial: the weights of a fold
// are loaded when the last one has ended. Partial sums of folds along k are added outside the array.
//
// `load` is one wire for all PEs of a column. There is no reset: new weights replace what an earlier fold left.
module pe_ws #(
    parameter WEIGHT_BITS = 8,
    parameter ACTIVATION_BITS = 8,
    parameter ACCUMULATOR_BITS = 32
) (
    input                                   clk,
    input                                   load,
    input      signed [ACTIVATION_BITS-1:0]  activation_in,  // from the left
    input      signed [WEIGHT_BITS-1:0]      weight_in,      // from above
    input      signed [ACCUMULATOR_BITS-1:0] sum_in,         // from above; 0 at the top
    output reg signed [ACTIVATION_BITS-1:0]  activation_out,
    output reg signed [WEIGHT_BITS-1:0]      weight_out,
    output reg signed [ACCUMULATOR_BITS-1:0] sum_out
);
    wire signed [ACCUMULATOR_BITS-1:0] sum;

    mac #(WEIGHT_BITS, ACTIVATION_BITS, ACCUMULATOR_BITS) mac (activation_in, weight_out, sum_in, sum);

    always @(posedge clk) begin
        activation_out <= activation_in;
        if (load) weight_out <= weight_in;
        sum_out <= sum;
    end
endmodule

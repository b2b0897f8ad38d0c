// sum = addend + activation * weight, combinational, modulo 2^ACCUMULATOR_BITS (two's complement; nothing saturates).
//
// WEIGHT_BITS says what a weight is:
//   16    FP16, with FP16 activations and FP32 sums (mac_fp16.v; none of what follows holds for it)
//   8, 4  two's complement, all values
//   2     ternary, 2'b11 = -1, 2'b00 = 0, 2'b01 = 1 (two's complement); 2'b10 is not in use, and is 0 too
//   1     binary, 1'b0 = 1, 1'b1 = -1
// The activation is in two's complement, and so are addend and sum.
module mac #(
    parameter WEIGHT_BITS = 8,
    parameter ACTIVATION_BITS = 8,
    parameter ACCUMULATOR_BITS = 32
) (
    input  signed [ACTIVATION_BITS-1:0]  activation,
    input  signed [WEIGHT_BITS-1:0]      weight,
    input  signed [ACCUMULATOR_BITS-1:0] addend,
    output signed [ACCUMULATOR_BITS-1:0] sum
);
    generate
        if (WEIGHT_BITS == 16) begin : floating_point
            mac_fp16 mac_fp16 (activation, weight, addend, sum);
        end else if (WEIGHT_BITS > 2) begin : multiply
            assign sum = addend + activation * weight;
        end else begin : add_or_subtract
            // -a = ~a + 1. The 1 is the carry into the only adder, written as one more bit to the right of its operands.
            wire subtract = weight[WEIGHT_BITS-1];
            wire nonzero  = (WEIGHT_BITS == 1) ? 1'b1 : weight[0];
            wire signed [ACTIVATION_BITS-1:0] selected = activation & {ACTIVATION_BITS{nonzero}};
            wire signed [ACTIVATION_BITS-1:0] term = selected ^ {ACTIVATION_BITS{subtract}};
            wire signed [ACTIVATION_BITS:0]   term_and_carry = {term, subtract};
            wire signed [ACCUMULATOR_BITS:0]  addend_and_one = {addend, 1'b1};
            wire signed [ACCUMULATOR_BITS:0]  total = addend_and_one + term_and_carry;
            assign sum = total[ACCUMULATOR_BITS:1];
        end
    endgenerate
endmodule

// sum = addend + activation * weight: FP16 factors, FP32 addend and sum, rounded once, to nearest, ties to even.
//
// The product of two FP16 numbers is exact in FP32, and what is accumulated never comes near FP32's subnormal numbers or
// its largest ones. So there is no logic for them: an addend is zero or normal. FP16 subnormals count as zero, and
// infinities and NaNs are not in use.
module mac_fp16 (
    input      [15:0] activation,
    input      [15:0] weight,
    input      [31:0] addend,
    output reg [31:0] sum
);
    // Product: significand with the leading 1 in bit 23 (FP32's place), exponent with FP32's bias.
    wire        zero     = activation[14:10] == 0 || weight[14:10] == 0;
    wire        p_sign   = activation[15] ^ weight[15];
    wire [21:0] p        = {1'b1, activation[9:0]} * {1'b1, weight[9:0]};
    wire [23:0] p_digits = zero ? 24'd0 : p[21] ? {p, 2'b0} : {p[20:0], 3'b0};
    wire [7:0]  p_exp    = zero ? 8'd0 : activation[14:10] + weight[14:10] + 8'd97 + p[21];

    // The addend that is greater in magnitude, and the other one, moved right to its exponent. Of the digits that drop
    // out, two stay (guard, round), and one bit tells whether any other is 1 (sticky).
    wire [23:0] c_digits = {addend[30:23] != 0, addend[22:0]};
    wire        swap     = {p_exp, p_digits} > {addend[30:23], c_digits};
    wire        sign     = swap ? p_sign : addend[31];
    wire [7:0]  exp      = swap ? p_exp : addend[30:23];
    wire [23:0] greater  = swap ? p_digits : c_digits;
    wire [23:0] lesser   = swap ? c_digits : p_digits;
    wire [7:0]  distance = exp - (swap ? addend[30:23] : p_exp);
    wire [4:0]  move     = distance > 31 ? 5'd31 : distance[4:0];
    wire [54:0] moved    = {lesser, 31'b0} >> move;
    wire [26:0] aligned  = {moved[54:29], |moved[28:0]};
    wire        subtract = p_sign ^ addend[31];
    wire [27:0] total    = {1'b0, greater, 3'b0} + ({28{subtract}} ^ {1'b0, aligned}) + subtract;

    // Leading 1 to bit 27, then round at bit 4.
    reg [27:0] digits;
    reg [8:0]  shifted_exp;
    reg [24:0] rounded;
    integer    i;
    always @* begin
        digits = total;
        shifted_exp = exp + 9'd1;
        for (i = 4; i >= 0; i = i - 1)
            if (digits >> (28 - (1 << i)) == 0) begin
                digits = digits << (1 << i);
                shifted_exp = shifted_exp - (1 << i);
            end
        rounded = digits[27:4] + (digits[3] & (|digits[2:0] | digits[4]));
        // Without its leading 1, a significand that was rounded up to 2 is 0, as it should be.
        if (total == 0) sum = {p_sign & addend[31], 31'b0};
        else sum = {sign, shifted_exp[7:0] + rounded[24], rounded[22:0]};
    end
endmodule

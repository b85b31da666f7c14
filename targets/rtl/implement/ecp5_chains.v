// Sums along an ECP5's carry without anything at either end. Yosys' own mapping gives the first
// CCU2C a constant carry and the last one a carry that nobody takes; nextpnr puts a CCU2C more
// there for each, of two LUTs. Here the first half of the first CCU2C makes the carry of bit 0,
// which needs no carry itself, and carries that are wanted are found from the sums.
(* techmap_celltype = "$alu" *)
module _bitwright_chain (A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  parameter _TECHMAP_CONSTMSK_CI_ = 1'b0;
  parameter _TECHMAP_CONSTVAL_CI_ = 1'b0;
  parameter _TECHMAP_CONSTMSK_BI_ = 1'b0;
  parameter _TECHMAP_CONSTVAL_BI_ = 1'b0;
  localparam SIGNED = A_SIGNED && B_SIGNED;
  localparam CARRY = _TECHMAP_CONSTVAL_CI_ === 1'b1;
  localparam INVERT = _TECHMAP_CONSTVAL_BI_ === 1'b1;
  localparam SLICES = (Y_WIDTH + 1) / 2;
  // Of the LUT that decides between the carry before and A, or, with bit 0, what its carry is.
  localparam [15:0] SUM = INVERT ? 16'h900A : 16'h600A;
  localparam [15:0] FIRST = INVERT ? (CARRY ? 16'h000B : 16'h0002) : (CARRY ? 16'h000E : 16'h0008);
  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  input CI, BI;
  output [Y_WIDTH-1:0] X, Y, CO;
  // Sums of four bits or less are few LUTs without a carry.
  wire _TECHMAP_FAIL_ = Y_WIDTH <= 4 || !_TECHMAP_CONSTMSK_CI_ || !_TECHMAP_CONSTMSK_BI_;
  wire [Y_WIDTH+A_WIDTH:0] a = {{(Y_WIDTH+1){SIGNED ? A[A_WIDTH-1] : 1'b0}}, A};
  wire [Y_WIDTH+B_WIDTH:0] b = {{(Y_WIDTH+1){SIGNED ? B[B_WIDTH-1] : 1'b0}}, B};
  wire [Y_WIDTH-1:0] added = b[Y_WIDTH-1:0] ^ {Y_WIDTH{INVERT ? 1'b1 : 1'b0}};
  wire [SLICES:0] carry;
  wire [2*SLICES-1:0] sums;
  assign sums[0] = a[0] ^ b[0] ^ (INVERT != CARRY ? 1'b1 : 1'b0);
  genvar i;
  generate
    for (i = 0; i < SLICES; i = i + 1) begin : slices
      if (i == 0)
        CCU2C #(.INIT0(FIRST), .INIT1(SUM), .INJECT1_0("NO"), .INJECT1_1("NO")) pair (
          .A0(a[0]), .B0(b[0]), .C0(1'b1), .D0(1'b1),
          .A1(a[1]), .B1(b[1]), .C1(1'b1), .D1(1'b1),
          .S1(sums[1]), .COUT(carry[1]));
      else if (i == SLICES - 1)
        CCU2C #(.INIT0(SUM), .INIT1(SUM), .INJECT1_0("NO"), .INJECT1_1("NO")) pair (
          .A0(a[2*i]), .B0(b[2*i]), .C0(1'b1), .D0(1'b1),
          .A1(a[2*i+1]), .B1(b[2*i+1]), .C1(1'b1), .D1(1'b1),
          .CIN(carry[i]), .S0(sums[2*i]), .S1(sums[2*i+1]));
      else
        CCU2C #(.INIT0(SUM), .INIT1(SUM), .INJECT1_0("NO"), .INJECT1_1("NO")) pair (
          .A0(a[2*i]), .B0(b[2*i]), .C0(1'b1), .D0(1'b1),
          .A1(a[2*i+1]), .B1(b[2*i+1]), .C1(1'b1), .D1(1'b1),
          .CIN(carry[i]), .S0(sums[2*i]), .S1(sums[2*i+1]), .COUT(carry[i+1]));
    end
  endgenerate
  assign Y = sums[Y_WIDTH-1:0];
  assign X = a[Y_WIDTH-1:0] ^ added;
  assign CO = (a[Y_WIDTH-1:0] & added) | ((Y ^ X) & (a[Y_WIDTH-1:0] | added));
endmodule

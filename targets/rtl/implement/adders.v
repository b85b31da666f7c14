// Every sum an adder of its own. Yosys would make sums of sums into carry-save adders, which take
// two LUTs for each bit where an adder along the carry takes one. Of operands with four bits in all
// every bit is one LUT without a carry, and an iCE40 has no more carry chains than tiles.
(* techmap_celltype = "$add $sub" *)
module _bitwright_adder (A, B, Y);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  parameter _TECHMAP_CELLTYPE_ = "";
  localparam SUBTRACTS = _TECHMAP_CELLTYPE_ == "$sub";
  localparam SIGNED = A_SIGNED && B_SIGNED;
  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  output [Y_WIDTH-1:0] Y;
  wire [Y_WIDTH-1:0] unused, carries;
  generate
    if (A_WIDTH + B_WIDTH <= 4) begin : logic_only
      wire [Y_WIDTH+A_WIDTH-1:0] a = {{Y_WIDTH{SIGNED ? A[A_WIDTH-1] : 1'b0}}, A};
      wire [Y_WIDTH+B_WIDTH-1:0] b =
        {{Y_WIDTH{SIGNED ? B[B_WIDTH-1] : 1'b0}}, B} ^ {(Y_WIDTH+B_WIDTH){SUBTRACTS ? 1'b1 : 1'b0}};
      wire [Y_WIDTH:0] carry;
      assign carry[0] = SUBTRACTS ? 1'b1 : 1'b0;
      genvar i;
      for (i = 0; i < Y_WIDTH; i = i + 1) begin : bits
        assign Y[i] = a[i] ^ b[i] ^ carry[i];
        assign carry[i+1] = (a[i] & b[i]) | (carry[i] & (a[i] ^ b[i]));
      end
    end else begin : along_the_carry
      \$alu #(
        .A_SIGNED(A_SIGNED),
        .B_SIGNED(B_SIGNED),
        .A_WIDTH(A_WIDTH),
        .B_WIDTH(B_WIDTH),
        .Y_WIDTH(Y_WIDTH)
      ) sum (.A(A), .B(B), .BI(SUBTRACTS), .CI(SUBTRACTS), .X(unused), .Y(Y), .CO(carries));
    end
  endgenerate
endmodule

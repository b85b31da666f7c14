// Every sum an adder of its own. Yosys would make sums of sums into carry-save adders, which take
// two LUTs for each bit where an adder along the carry takes one.
(* techmap_celltype = "$add $sub" *)
module _bitwright_adder (A, B, Y);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  parameter _TECHMAP_CELLTYPE_ = "";
  localparam SUBTRACTS = _TECHMAP_CELLTYPE_ == "$sub";
  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  output [Y_WIDTH-1:0] Y;
  wire [Y_WIDTH-1:0] unused, carries;
  \$alu #(
    .A_SIGNED(A_SIGNED),
    .B_SIGNED(B_SIGNED),
    .A_WIDTH(A_WIDTH),
    .B_WIDTH(B_WIDTH),
    .Y_WIDTH(Y_WIDTH)
  ) _TECHMAP_REPLACE_ (.A(A), .B(B), .BI(SUBTRACTS), .CI(SUBTRACTS), .X(unused), .Y(Y),
    .CO(carries));
endmodule

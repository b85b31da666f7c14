// y = a * b + c, in three cycles.
module madd (
    input  wire        clk,
    input  wire [7:0]  a,
    input  wire [7:0]  b,
    input  wire [15:0] c,
    output reg  [16:0] y
);
  reg [7:0] a1, b1;
  reg [15:0] c1, c2, p2;
  always @(posedge clk) begin
    a1 <= a;
    b1 <= b;
    c1 <= c;
    p2 <= a1 * b1;
    c2 <= c1;
    y <= p2 + c2;
  end
endmodule

// A multiply-accumulate unit with its own memory of weights: small, but with logic, carries, a
// multiplier and a memory to be counted.
module mac (
    input wire clk,
    input wire clear,
    input wire [7:0] address,
    input wire signed [7:0] x,
    output reg signed [23:0] sum
);
  reg signed [7:0] weights[0:255];
  reg signed [7:0] weight, delayed;
  initial $readmemh("weights.hex", weights);
  always @(posedge clk) begin
    weight  <= weights[address];
    delayed <= x;
    sum     <= clear ? 24'd0 : sum + weight * delayed;
  end
endmodule

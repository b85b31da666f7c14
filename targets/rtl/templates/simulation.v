// Both ways to the network, each with a clock of its own, for simulation only.
module simulation (
  input wire stream_clk,
  input wire rst,
  input wire [7:0] in_data,
  input wire in_valid,
  output wire in_ready,
  output wire [7:0] out_data,
  output wire out_valid,
  input wire out_ready,
  input wire clk,
  input wire [@IN_BITS@-1:0] codes_in,
  output wire [@OUT_BITS@-1:0] codes_out
);
  network_stream stream (
    .clk(stream_clk), .rst(rst),
    .in_data(in_data), .in_valid(in_valid), .in_ready(in_ready),
    .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready)
  );
  network alone (.clk(clk), .ce(1'b1), .codes_in(codes_in), .codes_out(codes_out));
endmodule

// Bytes in, bytes out, around the module `network`. A byte moves in a cycle in which its valid and
// its ready are both 1. The lowest bits of an input come first; see io.json.
module network_stream (
  input wire clk,
  input wire rst,
  input wire [7:0] in_data,
  input wire in_valid,
  output wire in_ready,
  output wire [7:0] out_data,
  output wire out_valid,
  input wire out_ready
);
  localparam IN_BYTES = @IN_BYTES@;
  localparam OUT_BYTES = @OUT_BYTES@;
  localparam LATENCY = @LATENCY@;  // cycles of the network alone

  // The last byte of an input goes straight to the network, with the ones before it.
  reg [8*IN_BYTES-1:0] held;
  reg [@IN_COUNT@:0] in_count;
  wire [8*IN_BYTES+7:0] shifted = {in_data, held};
  wire [8*IN_BYTES-1:0] gathered = shifted[8*IN_BYTES+7:8];
  wire in_last = in_count == IN_BYTES - 1;
  wire ce;
  assign in_ready = !in_last || ce;
  wire taken = in_valid && in_ready;
  always @(posedge clk) begin
    if (taken) held <= gathered;
    if (rst) in_count <= 0;
    else if (taken) in_count <= in_last ? 0 : in_count + 1;
  end

  wire [@OUT_BITS@-1:0] codes;
  network network (.clk(clk), .ce(ce), .codes_in(gathered[@IN_BITS@-1:0]), .codes_out(codes));

  // Which stages hold an input. All stand still while an output waits and cannot leave.
  reg [LATENCY-1:0] flight;
  wire done = flight[LATENCY-1];
  always @(posedge clk) begin
    if (rst) flight <= 0;
    else if (ce) flight <= {flight[LATENCY-2:0], taken && in_last};
  end

  reg [8*OUT_BYTES-1:0] sending;
  reg [@OUT_COUNT@:0] out_count;  // bytes that are left
  wire free = out_count == 0 || (out_count == 1 && out_ready);
  assign ce = !done || free;
  assign out_valid = out_count != 0;
  assign out_data = sending[7:0];
  always @(posedge clk) begin
    if (rst) out_count <= 0;
    else if (done && free) out_count <= OUT_BYTES;
    else if (out_valid && out_ready) out_count <= out_count - 1;
    if (done && free) sending <= @PADDED@;
    else if (out_valid && out_ready) sending <= sending >> 8;
  end
endmodule

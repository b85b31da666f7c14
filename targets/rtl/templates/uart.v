// The byte stream behind a serial line: 8 data bits, lowest first, no parity, one stop bit.
//
// No byte is taken wrongly. After a stop bit that is low, or a byte for which there is no room, the
// network is held in reset, and what comes is not taken. Silence ends that: when nothing has been
// received or sent for QUIET bits, all begins anew with the next byte as the first of an input. So a
// host that misses an output waits that long and sends again what was not answered. There is always
// room for an input when all before it are answered.
module network_uart #(
  parameter CLOCK_HZ = @CLOCK_HZ@,
  parameter BAUD = @BAUD@,
  parameter QUIET = @QUIET@
) (
  input wire clk,
  input wire rx,
  output wire tx
);
  localparam CLOCKS = (CLOCK_HZ + BAUD / 2) / BAUD;  // of a bit
  localparam WIDTH = $clog2(CLOCKS);

  // The line is not of this clock: what the first register holds may not be settled.
  reg [1:0] settled = 2'b11;
  wire line = settled[1];
  always @(posedge clk) settled <= {settled[0], rx};

  // Looked at in the middle of each bit. `place` is 0 between bytes, 1 in the start bit, then 2 to 9,
  // and 10 in the stop bit.
  reg [3:0] place = 0;
  reg [WIDTH-1:0] span = 0;
  reg [7:0] received = 0;
  wire look = place != 0 && span == 0;
  wire came = look && place == 10;
  always @(posedge clk) begin
    if (place == 0) begin
      if (!line) place <= 1;
      span <= CLOCKS / 2 - 1;
    end else if (!look) span <= span - 1;
    else begin
      span <= CLOCKS - 1;
      if (place == 1) place <= line ? 0 : 2;  // a start bit that is high again was none
      else if (came) place <= 0;
      else begin
        received <= {line, received[7:1]};
        place <= place + 1;
      end
    end
  end

  // One byte waits for the stream.
  reg lost = 0;
  reg [7:0] in_data = 0;
  reg in_valid = 0;
  wire in_ready, rst;
  always @(posedge clk) begin
    if (rst) in_valid <= 0;
    else if (came && line) in_valid <= 1;
    else if (in_ready) in_valid <= 0;
    if (came) in_data <= received;
  end

  wire [7:0] out_data;
  wire out_valid;
  reg [9:0] sending = 10'h3FF;
  reg [3:0] left = 0;  // bits
  reg [WIDTH-1:0] pace = 0;
  assign tx = sending[0];
  always @(posedge clk) begin
    if (left == 0) begin
      if (out_valid) begin
        sending <= {1'b1, out_data, 1'b0};
        left <= 10;
      end
      pace <= CLOCKS - 1;
    end else if (pace != 0) pace <= pace - 1;
    else begin
      sending <= {1'b1, sending[9:1]};
      left <= left - 1;
      pace <= CLOCKS - 1;
    end
  end

  // Silence, in bits; an input that is there in part does not keep it from coming.
  localparam LONG = $clog2(QUIET + 1);
  reg [WIDTH-1:0] tick = 0;
  reg [LONG-1:0] silent = QUIET;  // so that all begins in reset
  wire quiet = silent == QUIET;
  wire busy = !line || place != 0 || left != 0 || out_valid;
  always @(posedge clk) begin
    tick <= tick == 0 ? CLOCKS - 1 : tick - 1;
    if (busy) silent <= 0;
    else if (tick == 0 && !quiet) silent <= silent + 1;
    if (quiet) lost <= 0;
    else if (came && (!line || (in_valid && !in_ready))) lost <= 1;
  end
  assign rst = quiet || lost;

  network_stream stream (
    .clk(clk), .rst(rst),
    .in_data(in_data), .in_valid(in_valid), .in_ready(in_ready),
    .out_data(out_data), .out_valid(out_valid), .out_ready(left == 0)
  );
endmodule

// Runs vectors through the hardware and writes down what comes out, in one of three ways:
//   +way=0  the network alone, a vector every cycle;
//   +way=1  the byte stream, as fast as it goes;
//   +way=2  the byte stream with pauses on both sides and a reset in the middle.
// The file `in` holds the vectors' bytes, and +count says how many vectors. The file out0, out1 or
// out2 gets a line for each output, as one hexadecimal number, and one of what was measured.
// With GATES defined the stream is synthesized, and there is no way past its bytes: no way 0.
module simulation (input wire clk);
  localparam IN_BYTES = @IN_BYTES@;
  localparam OUT_BYTES = @OUT_BYTES@;
  localparam LATENCY = @LATENCY@;

  reg rst, in_valid, out_ready, direct;
  reg [7:0] in_data, last;
  wire in_ready, out_valid;
  wire [7:0] out_data;
  network_stream stream (
    .clk(clk), .rst(rst),
    .in_data(direct ? last : in_data), .in_valid(in_valid), .in_ready(in_ready),
    .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready)
  );

  // The network alone: the register of an input's first bytes is loaded whole in every cycle, and the
  // last byte follows in the next. The stream, held in reset, gathers and sends nothing then, and lets
  // the network go on.
  reg [8*IN_BYTES-1:0] vector;
  wire [8*IN_BYTES+7:0] shifted = {vector, 8'd0};
  always @(posedge clk) begin
    last <= vector[8*IN_BYTES-1:8*IN_BYTES-8];
`ifndef GATES
    if (direct) stream.held <= shifted[8*IN_BYTES-1:0];
`endif
  end

  function [31:0] xorshift(input [31:0] state);
    reg [31:0] x;
    begin
      x = state ^ (state << 13);
      x = x ^ (x >> 17);
      xorshift = x ^ (x << 5);
    end
  endfunction

  integer way, count, file, out, i;
  integer got, place;  // whole outputs, and bytes of the next
  integer sent;  // bytes
  integer resets, stuck;
  reg [8*OUT_BYTES-1:0] gathered;
  reg [63:0] cycle, limit, begun, ended, between, latency, least, most;
  reg [31:0] random;
  reg [7:0] next;
  reg fetched, give, take;
  initial begin
    if (!$value$plusargs("way=%d", way)) way = 0;
    if (!$value$plusargs("count=%d", count)) count = 0;
    file = $fopen("in", "rb");
    out = $fopen(way == 0 ? "out0" : way == 1 ? "out1" : "out2", "w");
    {got, place, sent, resets, stuck} = 0;
    {cycle, begun, ended, latency, least, most} = 0;
    limit = (64'd4 + count) * 64 * (IN_BYTES + OUT_BYTES + LATENCY);
    random = 1;
    fetched = 0;
    gathered = 0;
    direct = way == 0;
    rst = 1;
    in_valid = 0;
    in_data = 0;
    out_ready = 0;
  end

  always @(posedge clk) begin
    if (direct) begin
      // A vector is put down in one cycle, loaded in the next, and the network takes it in the third.
      if (cycle >= LATENCY + 2) begin
`ifndef GATES
        gathered = stream.codes;
`endif
        $fwrite(out, "%x\n", gathered);
        got = got + 1;
      end
      for (i = 0; i < IN_BYTES; i = i + 1) vector[8*i +: 8] <= $fgetc(file);
    end else begin
      if (in_valid && in_ready) begin
        if (sent == 0) begun = cycle;
        sent = sent + 1;
        fetched = 0;
      end
      if (out_valid && out_ready) begin
        gathered[8*place +: 8] = out_data;
        place = place + 1;
      end
      if (place == OUT_BYTES) begin
        $fwrite(out, "%x\n", gathered);
        between = cycle - ended;
        if (got == 0) latency = cycle - begun + 1;
        if (got == 1 || between < least) least = between;
        if (got > 0 && between > most) most = between;
        ended = cycle;
        got = got + 1;
        place = 0;
      end
      random = xorshift(random);
      give = way == 1 || random[31];
      random = xorshift(random);
      take = way == 1 || random[31];
      rst <= 0;
      if (way == 2 && resets == 0 && got + place > 0 &&
          2 * (got * OUT_BYTES + place) >= count * OUT_BYTES) begin
        rst <= 1;
        give = 0;
        take = 0;
        resets = 1;
        // What it drops is sent again.
        place = 0;
        sent = got * IN_BYTES;
        i = $fseek(file, sent, 0);
        fetched = 0;
      end
      if (!fetched && sent < count * IN_BYTES) begin
        next = $fgetc(file);
        fetched = 1;
      end
      in_valid <= fetched && give;
      in_data <= fetched && give ? next : 8'hA5;
      out_ready <= take;
      if (cycle > limit) stuck = 1;
    end
    cycle = cycle + 1;
    if (got >= count || stuck) begin
      $fwrite(out, "%0d %0d %0d %0d %0d\n", latency, least, most, resets, stuck);
      $fclose(out);
      $finish(0);
    end
  end
endmodule

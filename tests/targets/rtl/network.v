module network (
  input wire clk,
  input wire ce,
  input wire [7:0] codes_in,
  output reg [17:0] codes_out
);
  reg [7:0] codes;
  always @(posedge clk) if (ce) codes <= codes_in;
  wire [3:0] input_0 = codes[3:0];
  reg [3:0] input_0_s1;
  always @(posedge clk) if (ce) input_0_s1 <= input_0;
  wire [2:0] input_1 = codes[6:4];
  wire [6:0] fc_2 = {{{3{input_0[3]}}, input_0[3:2]} - {{2{1'b0}}, input_1}, input_0[1:0]};
  wire [6:0] fc_3 = {fc_2[6:1] + 6'd3, fc_2[0:0]};
  reg [6:0] fc_3_s1;
  always @(posedge clk) if (ce) fc_3_s1 <= fc_3;
  wire [4:0] act_4 = fc_3_s1[6:2];
  wire [3:0] act_5 = act_4[4] ? 4'd0 : act_4[3:0];
  wire [3:0] act_7 = fc_3_s1[6:6] ? act_5 : 4'd9;
  wire [7:0] mul_8 = $signed({{1{1'b0}}, act_7}) * $signed(input_0_s1);
  wire lut_9_g0 = input_1[2] ^ ~input_1[1];
  wire [2:0] lut_9 = {lut_9_g0, input_1[1], ~input_1[0]};
  reg [2:0] lut_9_s1;
  always @(posedge clk) if (ce) lut_9_s1 <= lut_9;
  always @(posedge clk) if (ce) begin
    codes_out[8:0] <= -{{1{mul_8[7]}}, mul_8};
    codes_out[17:9] <= {{6{1'b0}}, lut_9_s1};
  end
endmodule

// The clock of simulation.v, which ends by itself.
module clock;
  reg clk = 0;
  always #1 clk = !clk;
  simulation simulation (.clk(clk));
endmodule

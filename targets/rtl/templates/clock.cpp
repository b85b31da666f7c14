// The clock of simulation.v, which ends by itself.
#include <memory>
#include "Vsimulation.h"

double sc_time_stamp() { return 0; }

int main(int argc, char** argv) {
  const auto context = std::make_unique<VerilatedContext>();
  context->commandArgs(argc, argv);
  const auto top = std::make_unique<Vsimulation>(context.get());
  top->clk = 0;
  top->eval();
  while (!context->gotFinish()) {
    top->clk = 1;
    top->eval();
    top->clk = 0;
    top->eval();
  }
  top->final();
  return 0;
}

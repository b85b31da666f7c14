// The pins of network_uart as a serial line of this machine: prints the name of a pseudo-terminal,
// and what a program writes there is clocked in bit by bit, what the hardware sends is read there.
// Ends when that program has closed it.
// uart [drift=PERCENT] [lose=N] [garble=N] [add=N] [pause=N bits=M]: the far end's bits are longer by
// so much; its N-th byte, from 0 on, is lost on the way, ends with a low stop bit, comes twice, or
// comes M bits late.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include "Vnetwork_uart.h"

double sc_time_stamp() { return 0; }

namespace {
int terminal() {
  const int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) return -1;
  const char* name = ptsname(master);
  const int slave = name ? open(name, O_RDWR | O_NOCTTY) : -1;
  termios raw;
  if (slave < 0 || tcgetattr(slave, &raw) != 0) return -1;
  cfmakeraw(&raw);
  tcsetattr(slave, TCSANOW, &raw);
  std::printf("%s\n", name);
  std::fflush(stdout);
  // Ours stays open until the program has opened it: without anyone there, reading fails.
  pollfd far{master, POLLIN, 0};
  if (poll(&far, 1, 600000) != 1) return -1;
  close(slave);
  return master;
}
}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, double> option;
  for (int i = 1; i < argc; ++i) {
    const char* equals = std::strchr(argv[i], '=');
    if (!equals) return 2;
    option[std::string(argv[i], equals - argv[i])] = std::atof(equals + 1);
  }
  const double bit = @CLOCK_HZ@.0 / @BAUD@ * (1 + option["drift"] / 100);  // in clocks
  const int line = terminal();
  if (line < 0) return 3;
  const auto top = std::make_unique<Vnetwork_uart>();
  long bytes = 0;  // that came
  const auto meant = [&](const char* name) {  // for this byte
    return option.count(name) && option[name] == bytes;
  };
  // To the hardware: bytes with start and stop bit, bits of the first that went, the next one's time.
  std::deque<unsigned> frames;
  int sent = 0;
  double next = 0;
  // From it: bits that came, how many, and when to look at the next one.
  unsigned seen = 0;
  int place = -1;
  double look = 0;
  for (double clock = 0;; ++clock) {
    if (clock >= next) {
      next += bit;
      uint8_t byte;
      if (frames.empty()) {
        if (read(line, &byte, 1) == 1) {
          const unsigned frame = (meant("garble") ? 0u : 0x200u) | byte << 1;
          if (!meant("lose")) frames.push_back(frame);
          if (meant("add")) frames.push_back(frame);
          if (meant("pause")) next += bit * option["bits"];
          ++bytes;
        } else if (errno == EIO) {
          return 0;
        }
        top->rx = 1;
      }
      if (!frames.empty() && next <= clock + bit) {
        top->rx = frames.front() >> sent & 1;
        if (++sent == 10) {
          sent = 0;
          frames.pop_front();
        }
      }
    }
    top->clk = 1;
    top->eval();
    top->clk = 0;
    top->eval();
    if (place < 0 && !top->tx) {
      place = 0;
      seen = 0;
      look = clock + bit / 2;
    } else if (place >= 0 && clock >= look) {
      seen |= static_cast<unsigned>(top->tx) << place++;
      look += bit;
      if (place == 10) {
        place = -1;
        const uint8_t byte = seen >> 1;
        if ((seen & 0x201) != 0x200) {
          std::printf("the hardware sent a byte without its start or stop bit\n");
          return 1;
        }
        while (write(line, &byte, 1) != 1)
          if (errno != EAGAIN) return errno == EIO ? 0 : 1;
      }
    }
  }
}

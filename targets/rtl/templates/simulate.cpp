// Runs vectors through the hardware three times: the network alone, a vector every cycle; the byte
// stream as fast as it goes; and the byte stream with pauses on both sides and a reset in the middle.
// simulate IN OUT: IN holds the vectors' bytes, OUT gets the outputs' bytes of the three runs.
// Prints what it measured, in cycles.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>
#include "Vsimulation.h"

namespace {
constexpr size_t IN_BYTES = @IN_BYTES@, OUT_BYTES = @OUT_BYTES@, LATENCY = @LATENCY@;
using Bytes = std::vector<uint8_t>;
Vsimulation* top;

template <class Port> void set(Port& port, const uint8_t* data) {
  std::memset(&port, 0, sizeof port);
  std::memcpy(&port, data, std::min(sizeof port, IN_BYTES));
}
template <class Port> void get(const Port& port, uint8_t* data) {
  std::memcpy(data, &port, std::min(sizeof port, OUT_BYTES));
}

struct Range {  // of differences between the cycles of one event and the next
  long last = -1, least = -1, most = -1;
  void at(long cycle) {
    if (last >= 0) {
      least = least < 0 ? cycle - last : std::min(least, cycle - last);
      most = std::max(most, cycle - last);
    }
    last = cycle;
  }
};

// The network alone: vector i in at cycle i; its output is looked for LATENCY cycles later.
void alone(const Bytes& in, size_t count, Bytes& out) {
  for (size_t cycle = 0; cycle < count + LATENCY; ++cycle) {
    if (cycle < count) set(top->codes_in, &in[cycle * IN_BYTES]);
    top->eval();
    if (cycle >= LATENCY) get(top->codes_out, &out[(cycle - LATENCY) * OUT_BYTES]);
    top->clk = 1;
    top->eval();
    top->clk = 0;
  }
}

uint32_t random_state = 1;
bool coin() {  // xorshift32
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state >> 31;
}

struct Streamed {
  long latency_least = -1, latency_most = -1, cycles = 0, resets = 0;
  Range interval;
  bool stuck = false;
};

// What a reset drops is sent again; a run of bytes that never ends is stuck.
Streamed stream(const Bytes& in, size_t count, Bytes& out, bool pauses) {
  Streamed found;
  std::vector<long> begun(count);
  size_t sent = 0, got = 0;  // bytes
  bool reset = true;
  const long limit = 64L * (static_cast<long>(count) + 4) * (IN_BYTES + OUT_BYTES + LATENCY);
  for (long cycle = 0; got < count * OUT_BYTES; ++cycle) {
    if (cycle > limit) {
      found.stuck = true;
      break;
    }
    if (pauses && !found.resets && got >= count * OUT_BYTES / 2 && got > 0) {
      reset = true;
      ++found.resets;
    }
    top->rst = reset;
    top->in_valid = !reset && sent < count * IN_BYTES && (!pauses || coin());
    top->in_data = top->in_valid ? in[sent] : 0xA5;
    top->out_ready = !reset && (!pauses || coin());
    top->eval();
    if (top->in_valid && top->in_ready) {
      if (sent % IN_BYTES == 0) begun[sent / IN_BYTES] = cycle;
      ++sent;
    }
    if (top->out_valid && top->out_ready) {
      out[got] = top->out_data;
      if (++got % OUT_BYTES == 0) {
        const long latency = cycle - begun[got / OUT_BYTES - 1] + 1;
        found.latency_most = std::max(found.latency_most, latency);
        if (found.latency_least < 0) found.latency_least = latency;
        found.latency_least = std::min(found.latency_least, latency);
        found.interval.at(cycle);
      }
    }
    if (reset) {
      got -= got % OUT_BYTES;
      sent = got / OUT_BYTES * IN_BYTES;
    }
    top->stream_clk = 1;
    top->eval();
    top->stream_clk = 0;
    reset = false;
    ++found.cycles;
  }
  return found;
}
}  // namespace

double sc_time_stamp() { return 0; }

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::ifstream file(argv[1], std::ios::binary);
  Bytes in((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t count = in.size() / IN_BYTES;
  const auto owned = std::make_unique<Vsimulation>();
  top = owned.get();
  Bytes first(count * OUT_BYTES), second(count * OUT_BYTES), third(count * OUT_BYTES);
  alone(in, count, first);
  const Streamed fast = stream(in, count, second, false);
  const Streamed slow = stream(in, count, third, true);
  std::ofstream out(argv[2], std::ios::binary);
  for (const Bytes* bytes : {&first, &second, &third})
    out.write(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  std::printf(
      "{\"first_latency\": %ld, \"interval_least\": %ld, \"interval_most\": %ld, \"resets\": %ld, "
      "\"stuck\": %s}\n",
      fast.latency_least, fast.interval.least, fast.interval.most, slow.resets,
      fast.stuck || slow.stuck ? "true" : "false");
  return out ? 0 : 1;
}

// C simulation of the project as a program: integer codes in, integer codes out, through files.
//     csim WEIGHTS INPUT OUTPUT [trace]
// INPUT and OUTPUT hold 64-bit integers; with `trace`, OUTPUT holds 64-bit floats: every layer's
// result, sample after sample. Built from the firmware that synthesis reads; no arithmetic is here.
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "firmware/dut.h"
#include "firmware/nnet_utils/nnet_helpers.h"

namespace nnet {
bool trace_enabled = false;
std::map<std::string, void *> *trace_outputs = NULL;
size_t trace_type_size = sizeof(double);
} // namespace nnet

@WEIGHTS@
static std::string weights;
std::string bitwright_weights_dir() { return weights; }

static void infer(const long long *in, long long *out) {
@INFER@
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    weights = argv[1];
    std::ifstream input(argv[2], std::ios::binary);
    std::ofstream output(argv[3], std::ios::binary);
    bool trace = argc > 4;
    std::vector<std::pair<std::string, size_t> > layers;
@TRACE@
    std::map<std::string, void *> kept;
    for (size_t i = 0; i < layers.size(); i++)
        kept[layers[i].first] = std::calloc(layers[i].second, sizeof(double));
    nnet::trace_outputs = &kept;
    nnet::trace_enabled = trace;
    long long in[@N_IN@], out[@N_OUT@];
    while (input.read((char *)in, sizeof(in))) {
        infer(in, out);
        if (!trace) {
            output.write((const char *)out, sizeof(out));
            continue;
        }
        for (size_t i = 0; i < layers.size(); i++)
            output.write((const char *)kept[layers[i].first], layers[i].second * sizeof(double));
    }
    output.close();
    return input.gcount() != 0 || output.fail() ? 1 : 0;
}

// Test bench that checks itself: every vector of tb_data through the network, outputs compared with
// the reference's. Returns 1 on the first difference, so C simulation and co-simulation fail on it.
#include <fstream>
#include <iostream>
#include <sstream>
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
static void infer(const long long *in, long long *out) {
@INFER@
}

static std::vector<long long> numbers(const std::string &line) {
    std::istringstream text(line);
    std::vector<long long> found;
    long long number;
    while (text >> number)
        found.push_back(number);
    return found;
}

@MAIN@
    std::ifstream features((root + "tb_data/tb_input_features.dat").c_str());
    std::ifstream predictions((root + "tb_data/tb_output_predictions.dat").c_str());
#ifdef RTL_SIM
    std::ofstream results((root + "tb_data/rtl_cosim_results.log").c_str());
#else
    std::ofstream results((root + "tb_data/csim_results.log").c_str());
#endif
    if (!features.is_open() || !predictions.is_open()) {
        std::cerr << "ERROR: tb_data is not there; run in the project's folder" << std::endl;
        return 1;
    }
    std::string input_line, expected_line;
    long long vectors = 0, wrong = 0;
    while (std::getline(features, input_line) && std::getline(predictions, expected_line)) {
        std::vector<long long> in = numbers(input_line), expected = numbers(expected_line);
        if (in.size() != @N_IN@ || expected.size() != @N_OUT@) {
            std::cerr << "ERROR: vector " << vectors << " of tb_data is damaged" << std::endl;
            return 1;
        }
        long long out[@N_OUT@];
        infer(in.data(), out);
        for (int i = 0; i < @N_OUT@; i++) {
            results << out[i] << " ";
            if (out[i] != expected[i] && wrong++ == 0)
                std::cerr << "ERROR: vector " << vectors << ", output " << i << ": reference "
                          << expected[i] << ", simulation " << out[i] << std::endl;
        }
        results << std::endl;
        vectors++;
    }
    if (vectors == 0 || wrong != 0) {
        std::cerr << "FAILED: " << wrong << " outputs differ in " << vectors << " vectors" << std::endl;
        return 1;
    }
    std::cout << "PASSED: all outputs of " << vectors << " vectors equal the reference" << std::endl;
    return 0;
}

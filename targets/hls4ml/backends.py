"""hls4ml's backends: what each writes, and how its C simulation is built without vendor tools."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from flow.tools import VITIS, VIVADO_HLS, Tool


class Backend(Enum):
    VITIS = "Vitis"
    VIVADO = "Vivado"
    QUARTUS = "Quartus"
    CATAPULT = "Catapult"
    ONEAPI = "oneAPI"  # named so that it can be refused with its reason


class Strategy(Enum):
    LATENCY = "latency"
    RESOURCE = "resource"
    DISTRIBUTED_ARITHMETIC = "distributed_arithmetic"


_MAIN = "int main() {\n    const std::string root;"

# Catapult's verification flow names the weights' folder, and runs elsewhere.
_CCS_MAIN = """\
#include <mc_scverify.h>

static std::string weights_dir = "firmware/weights";
const char *get_weights_dir() { return weights_dir.c_str(); }

CCS_MAIN(int argc, char *argv[]) {
    std::string root;
    if (argc > 1) {
        weights_dir = argv[1];
        root = weights_dir + "/../../";
    }"""


@dataclass(frozen=True)
class Facts:
    """`part` is the device where none is asked for, `part_form` what a device's name looks like.
    `flags` build the simulation from inside the project, whose every source begins with the types
    of `headers`. `array` and `stream` call the top function
    on `in` and `out`, in C++; `main` begins the test bench's main function. `synthesizer` is run
    with the arguments `synthesis`. `extern_weights` says that the firmware expects the test bench
    to hold the arrays of weights.

    `narrow` says that the backend has 1-bit types: hls4ml writes ac_fixed<2,I> for ac_fixed<1,I>,
    which rounds and saturates elsewhere. The rest is what its headers do exactly: `depthwise`
    convolutions by (io_stream, strategy); transposing images, and joining vectors, in io_stream;
    casting a sum to the bit of a sign (an ac_fixed has no cast to an ac_int), and convolutions in
    io_parallel whose weights are such bits."""

    part: str
    part_form: str
    strategies: tuple[Strategy, ...]
    flags: tuple[str, ...]
    headers: tuple[str, ...]
    array: str
    stream: str
    synthesizer: Tool | None = None
    synthesis: tuple[str, ...] = ()
    main: str = _MAIN
    extern_weights: bool = False
    narrow: bool = True
    depthwise: frozenset[tuple[bool, Strategy]] = frozenset()
    stream_transpose: bool = True
    stream_join_vectors: bool = True
    sign_bits: bool = True
    sign_convs: bool = True


_ARRAYS = """\
    input_t x[@N_IN@];
    result_t y[@N_OUT@];
    nnet::convert_data<const long long, input_t, @N_IN@>(in, x);
    dut(x, y);
    nnet::convert_data<result_t, long long, @N_OUT@>(y, out);"""

_STREAMS = """\
    @STREAM@<input_t> x;
    @STREAM@<result_t> y;
    nnet::convert_data<const long long, input_t, @N_IN@>(in, x);
    dut(x, y);
    nnet::convert_data<result_t, long long, @N_OUT@>(y, out);"""

# Quartus passes structs with one array in them.
_STRUCTS = """\
    input_data inputs;
    input_t *x = reinterpret_cast<input_t *>(&inputs);
    for (int i = 0; i < @N_IN@; i++)
        x[i] = in[i];
    output_data outputs = dut(inputs);
    result_t *y = reinterpret_cast<result_t *>(&outputs);
    for (int i = 0; i < @N_OUT@; i++)
        out[i] = y[i].to_int64();"""

_IHC_STREAMS = """\
    stream_in<input_t> x;
    stream_out<result_t> y;
    for (int i = 0; i < @N_IN@; i += input_t::size) {
        input_t beat;
        for (int j = 0; j < input_t::size; j++)
            beat[j] = in[i + j];
        x.write(beat);
    }
    dut(x, y);
    for (int i = 0; i < @N_OUT@; i += result_t::size) {
        result_t beat = y.read();
        for (int j = 0; j < result_t::size; j++)
            out[i + j] = beat[j].to_int64();
    }"""

# ac_fixed has no conversion to an integer, and hls4ml's own goes through double.
_AC_ARRAYS = """\
    input_t x[@N_IN@];
    result_t y[@N_OUT@];
    for (int i = 0; i < @N_IN@; i++)
        x[i] = in[i];
    dut(x, y);
    for (int i = 0; i < @N_OUT@; i++)
        out[i] = y[i].to_int64();"""

_AC_CHANNELS = _IHC_STREAMS.replace("stream_in", "ac_channel").replace("stream_out", "ac_channel")

_SCRIPT = "build_prj.tcl"
_AMD_PART = r"[a-z0-9][a-z0-9-]{3,63}"
_INTEL_PART = r"[A-Za-z0-9]{4,63}"
_AP = Facts(
    "xc7z020clg400-1",
    _AMD_PART,
    tuple(Strategy),
    ("-std=c++11", "-I.", "-Ifirmware/ap_types"),
    ("ap_fixed.h", "ap_int.h", "hls_stream.h"),
    _ARRAYS,
    _STREAMS.replace("@STREAM@", "hls::stream"),
    depthwise=frozenset(
        {(False, Strategy.LATENCY), (True, Strategy.LATENCY), (True, Strategy.RESOURCE)}
    ),
)

FACTS = {
    Backend.VITIS: replace(_AP, synthesizer=VITIS, synthesis=("--mode", "hls", "--tcl", _SCRIPT)),
    Backend.VIVADO: replace(_AP, synthesizer=VIVADO_HLS, synthesis=("-f", _SCRIPT)),
    Backend.QUARTUS: Facts(
        "Arria10",
        _INTEL_PART,
        (Strategy.RESOURCE,),
        ("-std=c++11", "-I.", "-Ifirmware/ac_types"),
        ("ac_fixed.h", "ac_int.h"),
        _STRUCTS,
        _IHC_STREAMS,
        narrow=False,
        sign_bits=False,
        stream_transpose=False,
    ),
    Backend.CATAPULT: Facts(
        "xcvu13p-flga2577-2-e",
        _AMD_PART,
        (Strategy.LATENCY, Strategy.RESOURCE),
        (
            "-std=c++11",
            "-I.",
            "-Ifirmware",
            "-Ifirmware/nnet_utils",
            *(f"-Ifirmware/{name}/include" for name in ("ac_types", "ac_math", "ac_simutils")),
        ),
        ("ac_channel.h", "ac_fixed.h", "ac_int.h"),
        _AC_ARRAYS,
        _AC_CHANNELS,
        main=_CCS_MAIN,
        extern_weights=True,
        narrow=False,
        sign_bits=False,
        sign_convs=False,
        stream_transpose=False,
        stream_join_vectors=False,
    ),
}

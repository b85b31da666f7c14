// Running model.tflite from C++ with LiteRT (or TensorFlow Lite), on one thread. Generated for
// MODEL; the numbers below are those of host.json.
//
// Input: IN_SIZE real numbers, channels last. Output: OUT_SIZE real numbers, before any softmax or
// argmax. Steps of the host before the quantizer (host.json, "steps") are the caller's.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "tensorflow/lite/interpreter.h"
#include "tensorflow/lite/interpreter_builder.h"
#include "tensorflow/lite/kernels/register.h"
#include "tensorflow/lite/model_builder.h"

class Network {
 public:
  explicit Network(const char* path) : model_(tflite::FlatBufferModel::BuildFromFile(path)) {
    tflite::ops::builtin::BuiltinOpResolver resolver;  // with XNNPACK, as the file was proven
    tflite::InterpreterBuilder(*model_, resolver)(&interpreter_);
    interpreter_->SetNumThreads(1);
    interpreter_->AllocateTensors();
  }

  std::vector<double> operator()(const std::vector<float>& x) {
    IN_TYPE* input = interpreter_->typed_input_tensor<IN_TYPE>(0);
    for (std::size_t i = 0; i < x.size(); ++i) {
      input[i] = static_cast<IN_TYPE>(code(x[i]) + IN_ZERO);
    }
    interpreter_->Invoke();
    const OUT_TYPE* output = interpreter_->typed_output_tensor<OUT_TYPE>(0);
    std::vector<double> y(OUT_SIZE);
    for (std::size_t i = 0; i < y.size(); ++i) {
      y[i] = (output[i] - (OUT_ZERO)) * kScale[i] + kOffset[i];
    }
    return y;
  }

 private:
  static int code(float x) {
    const float scaled = x / IN_SCALE;
    return static_cast<int>(std::clamp(ROUNDED, IN_LOWf, IN_HIGHf));
  }

  static constexpr double kScale[OUT_SIZE] = {OUT_SCALES};
  static constexpr double kOffset[OUT_SIZE] = {OUT_OFFSETS};

  std::unique_ptr<tflite::FlatBufferModel> model_;
  std::unique_ptr<tflite::Interpreter> interpreter_;
};

// From an image file to the input of the graph.
#pragma once

#include <opencv2/core.hpp>
#include <string>

#include "exported_model.hpp"

namespace ppcls {

/// The image as the model takes it: channels x height x width, float32.
struct Tensor {
  int channels, height, width;
  std::vector<float> values;
};

/// Read a file and apply the operators of `model`. Throws Error, which names the file or the operator.
Tensor preprocess(const std::string& file, const ExportedModel& model);

}  // namespace ppcls

// inference.yml: what an exported model needs beside its graph.
#pragma once

#include <yaml-cpp/yaml.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ppcls {

/// Something about the export or an image that this program cannot work with; the message names it.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// An operator of the preprocessing: its name and its arguments.
using Operator = std::pair<std::string, YAML::Node>;

/// The content of inference.yml.
struct ExportedModel {
  std::string graph;                ///< path of the ONNX file
  std::vector<Operator> operators;  ///< from a decoded image to the input of the graph
  std::vector<std::string> labels;  ///< by class id
  std::size_t topk = 5;
  bool rgb = true;      ///< channel order of the decoded image; BGR otherwise
  bool softmax = true;  ///< whether the graph ends in one

  /// Read the folder that `ppcls_ext export --format onnx` wrote. Throws Error.
  static ExportedModel read(const std::string& folder);
};

}  // namespace ppcls

// Classify images with an exported model:
//
//   classify MODEL_DIR IMAGE... [--topk K] [--tensors FILE]
//
// One line a class: file, class id, score, name, separated by tabs. --tensors writes what goes into the graph, float32,
// one image after the other, to be compared with another program's.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <numeric>
#include <openvino/runtime/core.hpp>

#include "exported_model.hpp"
#include "preprocess.hpp"

namespace {

struct Arguments {
  std::string folder, tensors;
  std::vector<std::string> images;
  std::size_t topk = 0;  // 0: as exported
};

Arguments parse(int count, char** words) {
  Arguments arguments;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "--topk" || word == "--tensors") {
      if (++i == count) throw ppcls::Error(word + " needs a value");
      if (word == "--tensors") {
        arguments.tensors = words[i];
      } else {
        const int topk = std::atoi(words[i]);
        if (topk < 1) throw ppcls::Error("--topk is '" + std::string(words[i]) + "'; expected 1 or more");
        arguments.topk = static_cast<std::size_t>(topk);
      }
    } else if (arguments.folder.empty()) {
      arguments.folder = word;
    } else {
      arguments.images.push_back(word);
    }
  }
  if (arguments.images.empty()) throw ppcls::Error("usage: classify MODEL_DIR IMAGE... [--topk K] [--tensors FILE]");
  return arguments;
}

void softmax(std::vector<float>& scores) {
  const float highest = *std::max_element(scores.begin(), scores.end());
  for (float& score : scores) score = std::exp(score - highest);
  const float sum = std::accumulate(scores.begin(), scores.end(), 0.0f);
  for (float& score : scores) score /= sum;
}

/// The ids of the best classes; of equal scores the lower id comes first.
std::vector<std::size_t> best(const std::vector<float>& scores, std::size_t topk) {
  std::vector<std::size_t> ids(scores.size());
  std::iota(ids.begin(), ids.end(), std::size_t{0});
  std::stable_sort(ids.begin(), ids.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  ids.resize(std::min(topk, ids.size()));
  return ids;
}

int run(const Arguments& arguments) {
  const ppcls::ExportedModel model = ppcls::ExportedModel::read(arguments.folder);
  ov::Core core;
  // By itself OpenVINO computes in bfloat16 where the processor has it.
  ov::CompiledModel compiled =
      core.compile_model(model.graph, "CPU", ov::hint::inference_precision(ov::element::f32));
  ov::InferRequest request = compiled.create_infer_request();
  std::ofstream tensors;
  if (!arguments.tensors.empty()) tensors.open(arguments.tensors, std::ios::binary);

  int failed = 0;
  for (const std::string& image : arguments.images) {
    try {
      ppcls::Tensor input = ppcls::preprocess(image, model);
      tensors.write(reinterpret_cast<const char*>(input.values.data()), input.values.size() * sizeof(float));
      const ov::Shape shape = {1, static_cast<std::size_t>(input.channels), static_cast<std::size_t>(input.height),
                               static_cast<std::size_t>(input.width)};
      request.set_input_tensor(ov::Tensor(ov::element::f32, shape, input.values.data()));
      request.infer();
      const ov::Tensor output = request.get_output_tensor(0);
      std::vector<float> scores(output.data<float>(), output.data<float>() + output.get_size());
      if (scores.size() != model.labels.size()) throw ppcls::Error("the graph has another number of classes than labels");
      if (!model.softmax) softmax(scores);
      for (std::size_t id : best(scores, arguments.topk ? arguments.topk : model.topk)) {
        std::printf("%s\t%zu\t%.5f\t%s\n", image.c_str(), id, scores[id], model.labels[id].c_str());
      }
    } catch (const ppcls::Error& error) {
      std::cerr << "error: " << image << ": " << error.what() << "\n";
      ++failed;
    }
  }
  return failed ? 1 : 0;
}

}  // namespace

int main(int count, char** words) {
  try {
    return run(parse(count, words));
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}

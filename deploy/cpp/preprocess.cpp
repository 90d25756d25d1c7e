#include "preprocess.hpp"

#include <array>
#include <cmath>
#include <map>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "pillow_resize.hpp"

namespace ppcls {

namespace {

/// An integer or [width, height].
cv::Size size_of(const YAML::Node& node) {
  if (node.IsSequence()) return {node[0].as<int>(), node[1].as<int>()};
  return {node.as<int>(), node.as<int>()};
}

cv::Mat resize(const cv::Mat& image, const YAML::Node& arguments) {
  cv::Size size;
  if (arguments["resize_short"]) {
    const double factor = arguments["resize_short"].as<double>() / std::min(image.cols, image.rows);
    // Halves go to the even neighbour, as Python's round() does.
    size = {static_cast<int>(std::nearbyint(image.cols * factor)), static_cast<int>(std::nearbyint(image.rows * factor))};
  } else if (arguments["size"]) {
    size = size_of(arguments["size"]);
  } else {
    throw Error("ResizeImage has neither size nor resize_short");
  }
  const std::string filter = arguments["interpolation"] ? arguments["interpolation"].as<std::string>() : "bilinear";
  const std::string backend = arguments["backend"] ? arguments["backend"].as<std::string>() : "cv2";
  if (backend == "pil") return pillow_resize(image, size, filter);
  static const std::map<std::string, int> kFilters = {{"nearest", cv::INTER_NEAREST},
                                                      {"bilinear", cv::INTER_LINEAR},
                                                      {"bicubic", cv::INTER_CUBIC},
                                                      {"area", cv::INTER_AREA},
                                                      {"lanczos", cv::INTER_LANCZOS4}};
  if (backend != "cv2" || !kFilters.count(filter)) {
    throw Error("ResizeImage: backend '" + backend + "' with interpolation '" + filter + "' is not known here");
  }
  cv::Mat result;
  cv::resize(image, result, size, 0, 0, kFilters.at(filter));
  return result;
}

cv::Mat crop(const cv::Mat& image, const YAML::Node& arguments) {
  const cv::Size size = size_of(arguments["size"]);
  if (image.cols < size.width || image.rows < size.height) throw Error("the image is smaller than CropImage.size");
  const int left = (image.cols - size.width) / 2, top = (image.rows - size.height) / 2;
  return image(cv::Rect(left, top, size.width, size.height));
}

cv::Mat normalize(const cv::Mat& image, const YAML::Node& arguments) {
  if (arguments["channel_num"] && arguments["channel_num"].as<int>() != 3) {
    throw Error("NormalizeImage.channel_num is not 3");
  }
  if (arguments["order"] && arguments["order"].as<std::string>() == "chw") throw Error("NormalizeImage.order is chw");
  std::array<float, 3> mean = {0.485f, 0.456f, 0.406f}, std = {0.229f, 0.224f, 0.225f};
  if (arguments["mean"]) mean = arguments["mean"].as<std::array<float, 3>>();
  if (arguments["std"]) std = arguments["std"].as<std::array<float, 3>>();
  const float scale = arguments["scale"] ? arguments["scale"].as<float>() : 1.0f / 255.0f;
  cv::Mat result;
  image.convertTo(result, CV_32FC3);
  result.forEach<cv::Vec3f>([&](cv::Vec3f& pixel, const int*) {
    for (int channel = 0; channel < 3; ++channel) {
      pixel[channel] = (pixel[channel] * scale - mean[channel]) / std[channel];
    }
  });
  return result;
}

Tensor channels_first(const cv::Mat& image) {
  Tensor tensor{image.channels(), image.rows, image.cols, {}};
  cv::Mat pixels;
  image.convertTo(pixels, CV_32FC3);
  std::vector<cv::Mat> planes;
  cv::split(pixels, planes);
  for (const cv::Mat& plane : planes) {
    tensor.values.insert(tensor.values.end(), plane.ptr<float>(), plane.ptr<float>() + plane.total());
  }
  return tensor;
}

}  // namespace

Tensor preprocess(const std::string& file, const ExportedModel& model) {
  cv::Mat image = cv::imread(file, cv::IMREAD_COLOR);  // BGR, 8 bits, upright
  if (image.empty()) throw Error(file + ": not an image that OpenCV can read");
  if (model.rgb) cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  for (const auto& [name, arguments] : model.operators) {
    if (name == "ResizeImage") {
      image = resize(image, arguments);
    } else if (name == "CropImage") {
      image = crop(image, arguments);
    } else if (name == "NormalizeImage") {
      image = normalize(image, arguments);
    } else if (name != "ToCHWImage") {  // that one is the end
      throw Error("the operator " + name + " of inference.yml is not known here");
    }
  }
  return channels_first(image);
}

}  // namespace ppcls

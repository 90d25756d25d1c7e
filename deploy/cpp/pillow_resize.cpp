#include "pillow_resize.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "exported_model.hpp"

namespace ppcls {

namespace {

constexpr double kPi = 3.14159265358979323846;

double sinc(double x) { return x == 0 ? 1 : std::sin(kPi * x) / (kPi * x); }

double cubic(double x) {  // of Keys (1981) with a = -1/2
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/// A filter: its weight at a distance, and the distance beyond which that is zero.
struct Filter {
  std::function<double(double)> weight;
  double support;
};

Filter filter_of(const std::string& name) {
  if (name == "box") return {[](double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }, 0.5};
  if (name == "bilinear") return {[](double x) { return std::max(0.0, 1 - std::abs(x)); }, 1};
  if (name == "hamming") {
    return {[](double x) { return std::abs(x) < 1 ? sinc(x) * (0.54 + 0.46 * std::cos(kPi * x)) : 0.0; }, 1};
  }
  if (name == "bicubic") return {cubic, 2};
  if (name == "lanczos") return {[](double x) { return std::abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0.0; }, 3};
  throw Error("ResizeImage.interpolation is '" + name + "', which Pillow does not have");
}

/// The source pixels that a target pixel sees, and their weights, which add up to 1.
struct Window {
  int first;
  std::vector<double> weights;
};

std::vector<Window> windows_of(int source, int target, const Filter& filter) {
  const double factor = static_cast<double>(source) / target, stretch = std::max(factor, 1.0);
  const double support = filter.support * stretch;
  std::vector<Window> windows;
  for (int place = 0; place < target; ++place) {
    const double centre = (place + 0.5) * factor;
    const int first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int last = std::min(source, static_cast<int>(centre + support + 0.5));
    Window window{first, {}};
    double sum = 0;
    for (int pixel = first; pixel < last; ++pixel) {
      window.weights.push_back(filter.weight((pixel - centre + 0.5) / stretch));
      sum += window.weights.back();
    }
    for (double& weight : window.weights) weight /= sum;
    windows.push_back(std::move(window));
  }
  return windows;
}

/// Resize along x; the result is rounded to 8 bits, as Pillow's is between its two passes.
cv::Mat along_x(const cv::Mat& image, int width, const Filter& filter) {
  const int channels = image.channels();
  const std::vector<Window> windows = windows_of(image.cols, width, filter);
  cv::Mat result(image.rows, width, image.type());
  for (int y = 0; y < image.rows; ++y) {
    const uchar* from = image.ptr<uchar>(y);
    uchar* to = result.ptr<uchar>(y);
    for (const Window& window : windows) {
      for (int channel = 0; channel < channels; ++channel) {
        double value = 0;
        for (std::size_t i = 0; i < window.weights.size(); ++i) {
          value += window.weights[i] * from[(window.first + static_cast<int>(i)) * channels + channel];
        }
        *to++ = static_cast<uchar>(std::clamp(std::floor(value + 0.5), 0.0, 255.0));
      }
    }
  }
  return result;
}

cv::Mat nearest(const cv::Mat& image, cv::Size size) {
  cv::Mat result(size, image.type());
  const std::size_t bytes = image.elemSize();
  for (int y = 0; y < size.height; ++y) {
    const uchar* row = image.ptr<uchar>(static_cast<int>((y + 0.5) * image.rows / size.height));
    for (int x = 0; x < size.width; ++x) {
      const int column = static_cast<int>((x + 0.5) * image.cols / size.width);
      std::copy_n(row + column * bytes, bytes, result.ptr<uchar>(y) + x * bytes);
    }
  }
  return result;
}

}  // namespace

cv::Mat pillow_resize(const cv::Mat& image, cv::Size size, const std::string& filter) {
  if (filter == "nearest") return nearest(image, size);
  const Filter chosen = filter_of(filter);
  cv::Mat result = size.width == image.cols ? image : along_x(image, size.width, chosen);
  if (size.height != image.rows) {
    cv::Mat turned;
    cv::transpose(result, turned);
    cv::transpose(along_x(turned, size.height, chosen), result);
  }
  return result;
}

}  // namespace ppcls

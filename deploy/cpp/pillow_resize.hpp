// Resizing as Pillow does it. OpenCV's filters have a fixed support and alias when an image shrinks; Pillow's grow with
// the factor, so that each source pixel counts.
#pragma once

#include <opencv2/core.hpp>
#include <string>

namespace ppcls {

/// Resize 8-bit pixels. `filter` is nearest, box, bilinear, hamming, bicubic or lanczos. Throws Error for another.
cv::Mat pillow_resize(const cv::Mat& image, cv::Size size, const std::string& filter);

}  // namespace ppcls

#include "exported_model.hpp"

namespace ppcls {

namespace {

YAML::Node required(const YAML::Node& node, const std::string& key, const std::string& path) {
  const YAML::Node found = node[key];
  if (!found) throw Error(path + " is missing in inference.yml");
  return found;
}

}  // namespace

ExportedModel ExportedModel::read(const std::string& folder) {
  const std::string file = folder + "/inference.yml";
  ExportedModel model;
  try {
    const YAML::Node root = YAML::LoadFile(file);
    const YAML::Node pre = required(root, "PreProcess", "PreProcess");
    for (const auto& op : required(pre, "transform_ops", "PreProcess.transform_ops")) {
      if (!op.IsMap() || op.size() != 1) throw Error("PreProcess.transform_ops holds something other than operators");
      model.operators.emplace_back(op.begin()->first.as<std::string>(), op.begin()->second);
    }
    const YAML::Node topk = required(required(root, "PostProcess", "PostProcess"), "Topk", "PostProcess.Topk");
    model.topk = required(topk, "topk", "PostProcess.Topk.topk").as<std::size_t>();
    for (const auto& label : required(topk, "label_list", "PostProcess.Topk.label_list")) {
      model.labels.push_back(label.as<std::string>());
    }
    const YAML::Node made = required(root, "Export", "Export");
    if (made["decode"] && made["decode"]["to_rgb"]) model.rgb = made["decode"]["to_rgb"].as<bool>();
    if (!made["onnx"]) throw Error(folder + " holds no ONNX graph; write it with `ppcls_ext export --format onnx`");
    const YAML::Node onnx = made["onnx"];
    if (onnx["inside"] && onnx["inside"].size() > 0) {
      throw Error("the graph was exported with --uint8_input; this program normalises by itself");
    }
    model.graph = folder + "/" + required(onnx, "graph", "Export.onnx.graph").as<std::string>();
    const std::string scores = required(onnx, "outputs", "Export.onnx.outputs")[0].as<std::string>();
    model.softmax = scores == "probabilities";
  } catch (const YAML::Exception& error) {
    throw Error(file + ": " + error.what());
  }
  return model;
}

}  // namespace ppcls

// A bundle's folder: manifest.json, files that are what it says, and the samples in golden/.
#pragma once

#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "json.hpp"
#include "npz.hpp"
#include "sha256.hpp"

namespace qcompile {

using Arrays = std::map<std::string, Array>;
using Run = std::function<Arrays(const Arrays&)>;  // inputs to outputs

struct Sample {
  Arrays inputs, outputs;
};

class Bundle {
 public:
  // Reads the manifest and compares every file with it. Throws std::runtime_error, one line, where one is missing,
  // was changed, or stems from another compile.
  explicit Bundle(const std::string& folder) : folder_(folder), manifest_(read_json("manifest.json")) {
    const std::string schema = within("manifest.json", [&] { return manifest_.at("schema").text; });
    if (schema != "qcompile-manifest/1") throw std::runtime_error("manifest.json has the schema '" + schema + "'");
    for (const auto& [name, entry] : within("manifest.json", [&] { return manifest_.at("files").object; })) {
      const std::string digest = within(name, [&, file = name] { return sha256_of(path(file)); });
      if (digest != entry.at("sha256").text) throw std::runtime_error(name + " differs from manifest.json (sha256)");
    }
  }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  bool holds(const std::string& name) const { return manifest_.at("files").has(name); }

  // The graph for onnxruntime: host.onnx where model.onnx is for TensorRT.
  std::string host_model() const { return holds("host.onnx") ? "host.onnx" : "model.onnx"; }

  // `kind` is "inputs" or "outputs": name to ONNX element type, such as "float" or "int64".
  std::map<std::string, std::string> signature(const std::string& kind) const {
    std::map<std::string, std::string> found;
    for (const Json& item : manifest_.at(kind).array) found[item.at("name").text] = item.at("dtype").text;
    return found;
  }

  // "inputs", "outputs" or "states", as manifest.json lists them.
  const std::vector<Json>& list(const std::string& kind) const { return manifest_.at(kind).array; }

  std::vector<Sample> golden() const {
    std::vector<Sample> samples;
    for (int number = 0; holds("golden/" + std::to_string(number) + ".inputs.npz"); ++number) {
      const std::string stem = "golden/" + std::to_string(number);
      samples.push_back({read(stem + ".inputs.npz"), read(stem + ".outputs.npz")});
    }
    return samples;
  }

  // By output: {"atol": largest difference} for floats, {"agreement": share of equal elements} for the rest.
  Json tolerances() const { return read_json("golden/tolerances.json"); }

 private:
  template <typename Read>
  static std::invoke_result_t<Read> within(const std::string& name, Read read) {
    try {
      return read();
    } catch (const std::exception& error) {
      throw std::runtime_error(name + " " + error.what());
    }
  }

  Arrays read(const std::string& name) const {
    return within(name, [&] { return read_npz(path(name)); });
  }

  Json read_json(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    if (!file) throw std::runtime_error(name + " is missing: " + folder_ + " is no bundle");
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    return within(name, [&] { return Json::parse(text); });
  }

  std::string folder_;
  Json manifest_;
};

}  // namespace qcompile

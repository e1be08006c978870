// States carried from run to run, as qcompiler.runtime's stream() and run_ort.py --stream do it.
#pragma once

#include <algorithm>
#include <cstdio>

#include "bundle.hpp"
#include "elements.hpp"

namespace qcompile {

namespace detail {

// Floats as the codes that a model with int8 states takes: rounded half to even, saturating at -128 and 127. Dither is
// for the model's own rounding, inside the graph: a first state is rounded once, so that nothing adds up.
inline Array to_codes(const Array& floats, float scale) {
  Array made{"i1", floats.shape, std::vector<unsigned char>(floats.count())};
  for (std::size_t i = 0; i < made.bytes.size(); ++i) {
    const float real = static_cast<float>(element(floats, i));
    const float code = std::nearbyint(real / scale);  // to even: the rounding mode that programs begin in
    made.bytes[i] = static_cast<unsigned char>(static_cast<signed char>(std::fmax(-128.0f, std::fmin(code, 127.0f))));
  }
  return made;
}

inline std::string numpy_word(const std::string& onnx) {
  static const std::map<std::string, std::string> words = {
      {"float", "f4"}, {"float16", "f2"}, {"double", "f8"}, {"bool", "b1"},  {"int8", "i1"},  {"uint8", "u1"},
      {"int16", "i2"}, {"uint16", "u2"},  {"int32", "i4"},  {"uint32", "u4"}, {"int64", "i8"}, {"uint64", "u8"}};
  const auto found = words.find(onnx);
  if (found == words.end()) throw std::runtime_error("a state of type " + onnx + ", which this program does not read");
  return found->second;
}

}  // namespace detail

class Stream {
 public:
  // `first`: states by the name of the input, or of the output that is its next value, such as the outputs of a
  // prefill; floats are rounded where the model takes codes. All others begin at zero, which is code 0.
  Stream(const Bundle& bundle, Run run, const Arrays& first = {}) : run_(std::move(run)) {
    for (const Json& item : bundle.list("inputs")) inputs_[item.at("name").text] = item;
    for (const Json& item : bundle.list("outputs")) outputs_[item.at("name").text] = item;
    for (const Json& item : bundle.list("states")) pairs_[item.at("input").text] = item.at("output").text;
    if (pairs_.empty()) throw std::runtime_error("the model carries no state");
    for (const Json& item : bundle.list("states")) {
      const std::string &name = item.at("input").text, &last = item.at("output").text;
      const auto given = first.count(name) != 0 ? first.find(name) : first.find(last);
      if (given == first.end()) continue;
      const bool rounds = item.has("scale") && given->second.dtype[0] == 'f';
      const float scale = rounds ? static_cast<float>(item.at("scale").number) : 0;
      states_[name] = rounds ? detail::to_codes(given->second, scale) : given->second;
    }
  }

  bool is_state(const std::string& name) const { return pairs_.count(name) != 0; }

  // All outputs; what they leave as states is the next run's.
  Arrays run(const Arrays& feeds) {
    if (states_.size() < pairs_.size()) begin(feeds);
    Arrays all = states_;
    all.insert(feeds.begin(), feeds.end());
    Arrays outputs = run_(all);
    for (const auto& [name, last] : pairs_) states_[name] = outputs.at(last);
    return outputs;
  }

 private:
  // Zeros. A symbolic size comes from the inputs, and is 0 where the graph itself makes the state longer (a cache).
  void begin(const Arrays& feeds) {
    std::map<std::string, std::int64_t> sizes;
    for (const Arrays* arrays : {&feeds, static_cast<const Arrays*>(&states_)})
      for (const auto& [name, array] : *arrays) {
        const auto& shape = inputs_.at(name).at("shape").array;
        for (std::size_t axis = 0; axis < std::min(shape.size(), array.shape.size()); ++axis)
          if (shape[axis].kind == Json::Kind::text) sizes[shape[axis].text] = array.shape[axis];
      }
    for (const auto& [name, last] : pairs_) {
      if (states_.count(name) != 0) continue;
      const Json& item = inputs_.at(name);
      const auto &shape = item.at("shape").array, &next = outputs_.at(last).at("shape").array;
      Array made{detail::numpy_word(item.at("dtype").text), {}, {}};
      std::size_t count = 1;
      for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        const bool fixed = shape[axis].kind == Json::Kind::number, known = sizes.count(shape[axis].text) != 0;
        const bool grows = axis >= next.size() || next[axis].text != shape[axis].text;
        if (!fixed && !known && !grows) throw std::runtime_error("the inputs don't tell the size of the state " + name);
        const auto size = fixed ? static_cast<std::int64_t>(shape[axis].number) : known ? sizes[shape[axis].text] : 0;
        made.shape.push_back(size);
        count *= static_cast<std::size_t>(size);
      }
      made.bytes.resize(count * made.width());
      states_[name] = std::move(made);
    }
  }

  Run run_;
  std::map<std::string, Json> inputs_, outputs_;
  std::map<std::string, std::string> pairs_;
  Arrays states_;
};

// Array[i] of each input in `source` is that of run i; states in it, by name and without that axis, begin the stream.
// Outputs that are no states are stacked in `destination`, of states the last values are kept. The exit status.
inline int stream_file(
    const Bundle& bundle, const Run& run, const std::string& source, const std::string& destination) {
  Arrays given;
  try {
    given = read_npz(source);
  } catch (const std::exception& error) {
    throw std::runtime_error(source + " " + error.what());
  }
  Stream stream(bundle, run, given);
  std::map<std::string, Array> inputs;
  std::int64_t runs = -1;
  for (const Json& item : bundle.list("inputs")) {
    const std::string& name = item.at("name").text;
    if (stream.is_state(name)) continue;
    const auto found = given.find(name);
    if (found == given.end()) throw std::runtime_error(source + " lacks " + name);
    const auto& shape = found->second.shape;
    if (shape.empty() || shape[0] == 0 || (runs >= 0 && shape[0] != runs))
      throw std::runtime_error(source + " has no leading axis of runs that all inputs share");
    runs = shape[0];
    inputs.insert(*found);
  }
  if (runs < 0) throw std::runtime_error("all inputs of the model are states");
  Arrays stacked;
  for (std::int64_t turn = 0; turn < runs; ++turn) {
    Arrays feeds;
    for (const auto& [name, array] : inputs) {
      const std::size_t size = array.bytes.size() / static_cast<std::size_t>(runs);
      const auto start = array.bytes.begin() + static_cast<std::ptrdiff_t>(size * static_cast<std::size_t>(turn));
      feeds[name] = {array.dtype, {array.shape.begin() + 1, array.shape.end()}, {start, start + size}};
    }
    Arrays outputs = stream.run(feeds);
    for (const Json& item : bundle.list("states")) {
      const std::string& name = item.at("output").text;
      stacked[name] = std::move(outputs.at(name));
      outputs.erase(name);
    }
    for (auto& [name, array] : outputs) {
      Array& whole = stacked[name];
      if (turn == 0) {
        whole = {array.dtype, array.shape, {}};
        whole.shape.insert(whole.shape.begin(), runs);
      } else if (!std::equal(array.shape.begin(), array.shape.end(), whole.shape.begin() + 1, whole.shape.end())) {
        throw std::runtime_error("the output " + name + " changes its shape from run to run");
      }
      whole.bytes.insert(whole.bytes.end(), array.bytes.begin(), array.bytes.end());
    }
  }
  write_npz(destination, stacked);
  std::printf("%lld runs, %zu states carried\n", static_cast<long long>(runs), bundle.list("states").size());
  return 0;
}

}  // namespace qcompile

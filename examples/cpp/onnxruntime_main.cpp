// Loads a bundle with onnxruntime and replays golden/: exit status 0 inside all tolerances, 1 outside or on any fault.
//   qcompile_onnxruntime BUNDLE [FILE]      FILE: another graph of the bundle, such as model.ort for minimal builds
//   qcompile_onnxruntime BUNDLE --stream INPUTS.npz OUTPUTS.npz      run by run, with states carried along

#include <onnxruntime_cxx_api.h>

#include <numeric>

#include "replay.hpp"
#include "stream.hpp"

namespace {

using qcompile::Array;
using qcompile::Arrays;

struct ElementType {
  const char *onnx, *numpy;
  ONNXTensorElementDataType ort;
};

const ElementType kTypes[] = {
    {"float", "f4", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},    {"float16", "f2", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    {"double", "f8", ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE},  {"bool", "b1", ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL},
    {"int8", "i1", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8},      {"uint8", "u1", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
    {"int16", "i2", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16},    {"uint16", "u2", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16},
    {"int32", "i4", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},    {"uint32", "u4", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32},
    {"int64", "i8", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},    {"uint64", "u8", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64},
};

template <typename Matches>
const ElementType& type_where(Matches matches) {
  for (const ElementType& type : kTypes)
    if (matches(type)) return type;
  throw std::runtime_error("an element type that this program does not read");
}

class Session {
 public:
  Session(const qcompile::Bundle& bundle, const std::string& file)
      : session_(environment_, bundle.path(file).c_str(), Ort::SessionOptions{}) {
    inputs_ = session_.GetInputNames();
    outputs_ = session_.GetOutputNames();
    for (std::size_t i = 0; i < inputs_.size(); ++i) found_in_[inputs_[i]] = word(session_.GetInputTypeInfo(i));
    for (std::size_t i = 0; i < outputs_.size(); ++i) found_out_[outputs_[i]] = word(session_.GetOutputTypeInfo(i));
    if (found_in_ != bundle.signature("inputs") || found_out_ != bundle.signature("outputs"))
      throw std::runtime_error(file + " has other inputs or outputs than manifest.json says");
  }

  Arrays run(const Arrays& feeds) {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<Ort::Value> values;
    std::vector<const char*> input_names, output_names;
    for (const std::string& name : inputs_) {
      const Array& array = feeds.at(name);
      const auto type = type_where([&](const ElementType& t) { return array.dtype == t.numpy; });
      auto* data = const_cast<unsigned char*>(array.bytes.data());
      const auto& shape = array.shape;
      values.push_back(Ort::Value::CreateTensor(memory, data, array.bytes.size(), shape.data(), shape.size(), type.ort));
      input_names.push_back(name.c_str());
    }
    for (const std::string& name : outputs_) output_names.push_back(name.c_str());
    auto results = session_.Run(Ort::RunOptions{}, input_names.data(), values.data(), values.size(),
                                output_names.data(), output_names.size());
    Arrays made;
    for (std::size_t i = 0; i < results.size(); ++i) made[outputs_[i]] = copied(results[i]);
    return made;
  }

 private:
  static std::string word(const Ort::TypeInfo& info) {
    const auto element = info.GetTensorTypeAndShapeInfo().GetElementType();
    return type_where([&](const ElementType& t) { return element == t.ort; }).onnx;
  }

  static Array copied(const Ort::Value& value) {
    const auto info = value.GetTensorTypeAndShapeInfo();
    const auto element = info.GetElementType();
    Array made{type_where([&](const ElementType& t) { return element == t.ort; }).numpy, info.GetShape(), {}};
    const auto* data = static_cast<const unsigned char*>(value.GetTensorRawData());
    made.bytes.assign(data, data + info.GetElementCount() * made.width());
    return made;
  }

  Ort::Env environment_{ORT_LOGGING_LEVEL_FATAL, "qcompile"};
  Ort::Session session_;
  std::vector<std::string> inputs_, outputs_;
  std::map<std::string, std::string> found_in_, found_out_;
};

}  // namespace

int main(int count, char** words) {
  return qcompile::guarded("qcompile_onnxruntime", [&] {
    const bool streams = count == 5 && std::string(words[2]) == "--stream";
    if (count < 2 || (count > 3 && !streams))
      throw std::runtime_error("usage: qcompile_onnxruntime BUNDLE [FILE | --stream INPUTS.npz OUTPUTS.npz]");
    const qcompile::Bundle bundle(words[1]);
    Session session(bundle, count == 3 ? words[2] : bundle.host_model());
    const qcompile::Run run = [&](const Arrays& feeds) { return session.run(feeds); };
    return streams ? qcompile::stream_file(bundle, run, words[3], words[4]) : qcompile::replay(bundle, run);
  });
}

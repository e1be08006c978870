// Loads a bundle's engine with TensorRT 10 or newer and replays golden/: exit status 0 inside all tolerances, else 1.
//   ./build_engine.sh && qcompile_tensorrt BUNDLE [PLAN]      PLAN: default BUNDLE/model.plan
//   qcompile_tensorrt BUNDLE --stream INPUTS.npz OUTPUTS.npz      run by run, with states carried along

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <memory>

#include "replay.hpp"
#include "stream.hpp"

namespace {

using qcompile::Array;
using qcompile::Arrays;

class Logger : public nvinfer1::ILogger {
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kERROR) std::fprintf(stderr, "TensorRT: %s\n", message);
  }
};

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

const char* numpy_type(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT: return "f4";
    case nvinfer1::DataType::kHALF: return "f2";
    case nvinfer1::DataType::kINT8: return "i1";
    case nvinfer1::DataType::kINT32: return "i4";
    case nvinfer1::DataType::kINT64: return "i8";
    case nvinfer1::DataType::kBOOL: return "b1";
    case nvinfer1::DataType::kUINT8: return "u1";
    default: throw std::runtime_error("an element type that this program does not read");
  }
}

// Device memory that grows and is freed with its owner.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(memory_); }

  void* reserve(std::size_t size) {
    if (size > size_ || memory_ == nullptr) {
      cudaFree(memory_);
      memory_ = nullptr;
      check(cudaMalloc(&memory_, size > 0 ? size : 1), "device memory");
      size_ = size;
    }
    return memory_;
  }

 private:
  void* memory_ = nullptr;
  std::size_t size_ = 0;
};

class Engine {
 public:
  Engine(const qcompile::Bundle& bundle, const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + " is missing: run build_engine.sh on this device");
    const std::string plan{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    runtime_.reset(nvinfer1::createInferRuntime(logger_));
    if (runtime_) engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine_) throw std::runtime_error(path + " is not read by this TensorRT on this device: run build_engine.sh");
    context_.reset(engine_->createExecutionContext());
    if (!context_) throw std::runtime_error(path + " gives no execution context: is the device's memory full?");
    check(cudaStreamCreate(&stream_), "a stream");
    auto wanted = bundle.signature("inputs");
    wanted.merge(bundle.signature("outputs"));
    bool same = engine_->getNbIOTensors() == static_cast<int>(wanted.size());
    for (int i = 0; i < engine_->getNbIOTensors(); ++i) {
      const std::string name = engine_->getIOTensorName(i);
      same = same && wanted.count(name) != 0;
      const auto mode = engine_->getTensorIOMode(name.c_str());
      (mode == nvinfer1::TensorIOMode::kINPUT ? inputs_ : outputs_).push_back(name);
    }
    if (!same) throw std::runtime_error(path + " has other inputs or outputs than manifest.json says");
  }

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine() { cudaStreamDestroy(stream_); }

  Arrays run(const Arrays& feeds) {
    for (const std::string& name : inputs_) {
      const Array& array = feeds.at(name);
      nvinfer1::Dims shape{};
      shape.nbDims = static_cast<int>(array.shape.size());
      for (int axis = 0; axis < shape.nbDims; ++axis) shape.d[axis] = array.shape[axis];
      if (array.dtype != numpy_type(engine_->getTensorDataType(name.c_str())) ||
          !context_->setInputShape(name.c_str(), shape))
        throw std::runtime_error("the engine does not take the shape or element type of " + name);
      void* memory = buffers_[name].reserve(array.bytes.size());
      context_->setTensorAddress(name.c_str(), memory);
      const auto size = array.bytes.size();
      check(cudaMemcpyAsync(memory, array.bytes.data(), size, cudaMemcpyHostToDevice, stream_), "copy to the device");
    }
    Arrays made;
    for (const std::string& name : outputs_) {
      const nvinfer1::Dims shape = context_->getTensorShape(name.c_str());
      Array array{numpy_type(engine_->getTensorDataType(name.c_str())), {}, {}};
      std::size_t count = 1;
      for (int axis = 0; axis < shape.nbDims; ++axis) {
        if (shape.d[axis] < 0) throw std::runtime_error(name + " has a shape that depends on values");
        array.shape.push_back(shape.d[axis]);
        count *= static_cast<std::size_t>(shape.d[axis]);
      }
      array.bytes.resize(count * array.width());
      context_->setTensorAddress(name.c_str(), buffers_[name].reserve(array.bytes.size()));
      made[name] = std::move(array);
    }
    if (!context_->enqueueV3(stream_)) throw std::runtime_error("TensorRT could not run the engine");
    for (auto& [name, array] : made) {
      void* memory = buffers_[name].reserve(array.bytes.size());
      const auto size = array.bytes.size();
      check(cudaMemcpyAsync(array.bytes.data(), memory, size, cudaMemcpyDeviceToHost, stream_), "copy to the host");
    }
    check(cudaStreamSynchronize(stream_), "the run");
    return made;
  }

 private:
  Logger logger_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  std::vector<std::string> inputs_, outputs_;
  std::map<std::string, Buffer> buffers_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace

int main(int count, char** words) {
  return qcompile::guarded("qcompile_tensorrt", [&] {
    const bool streams = count == 5 && std::string(words[2]) == "--stream";
    if (count < 2 || (count > 3 && !streams))
      throw std::runtime_error("usage: qcompile_tensorrt BUNDLE [PLAN | --stream INPUTS.npz OUTPUTS.npz]");
    const qcompile::Bundle bundle(words[1]);
    Engine engine(bundle, count == 3 ? words[2] : bundle.path("model.plan"));
    const qcompile::Run run = [&](const Arrays& feeds) { return engine.run(feeds); };
    return streams ? qcompile::stream_file(bundle, run, words[3], words[4]) : qcompile::replay(bundle, run);
  });
}

// Not onnxruntime's header: the least of its C++ interface that examples/cpp/onnxruntime_main.cpp uses, for a check of
// syntax and types where the headers are absent. Nothing here can be linked; `make examples` compiles the real ones.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

enum ONNXTensorElementDataType {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64
};
enum OrtLoggingLevel { ORT_LOGGING_LEVEL_FATAL = 4 };
enum OrtAllocatorType { OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };

namespace Ort {

struct Env {
  Env(OrtLoggingLevel level, const char* name);
};
struct SessionOptions {};
struct RunOptions {};
struct MemoryInfo {
  static MemoryInfo CreateCpu(OrtAllocatorType allocator, OrtMemType memory);
};
struct TensorTypeAndShapeInfo {
  ONNXTensorElementDataType GetElementType() const;
  std::size_t GetElementCount() const;
  std::vector<int64_t> GetShape() const;
};
struct TypeInfo {
  TensorTypeAndShapeInfo GetTensorTypeAndShapeInfo() const;
};
struct Value {
  static Value CreateTensor(const MemoryInfo& memory, void* data, std::size_t bytes, const int64_t* shape,
                            std::size_t rank, ONNXTensorElementDataType type);
  TensorTypeAndShapeInfo GetTensorTypeAndShapeInfo() const;
  const void* GetTensorRawData() const;
};
struct Session {
  Session(const Env& environment, const char* path, const SessionOptions& options);
  std::vector<std::string> GetInputNames() const;
  std::vector<std::string> GetOutputNames() const;
  TypeInfo GetInputTypeInfo(std::size_t index) const;
  TypeInfo GetOutputTypeInfo(std::size_t index) const;
  std::vector<Value> Run(const RunOptions& options, const char* const* inputs, const Value* values, std::size_t count,
                         const char* const* outputs, std::size_t output_count);
};

}  // namespace Ort

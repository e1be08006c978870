// Arrays of an .npz as numpy.savez and qcompile write it: a zip archive, not compressed, with one .npy an array. Read
// and written up to 4 GiB.
#pragma once

#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace qcompile {

// An array in C order; `dtype` is numpy's word without its byte order: f4, f2, i8, u1, b1.
struct Array {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::vector<unsigned char> bytes;

  std::size_t width() const { return static_cast<std::size_t>(std::stoul(dtype.substr(1))); }
  std::size_t count() const { return bytes.size() / width(); }
};

namespace detail {

inline std::uint64_t little(const std::string& data, std::size_t at, int size) {
  if (at + static_cast<std::size_t>(size) > data.size()) throw std::runtime_error("is cut short");
  std::uint64_t value = 0;
  for (int i = size - 1; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(data[at + i]);
  return value;
}

inline std::string field(const std::string& header, const std::string& key, char from, char to) {
  const std::size_t start = header.find(from, header.find("'" + key + "':") + key.size() + 3);
  const std::size_t end = header.find(to, start + 1);
  if (end == std::string::npos) throw std::runtime_error("has a .npy without " + key);
  return header.substr(start + 1, end - start - 1);
}

inline Array read_npy(const std::string& data) {
  if (data.compare(0, 6, "\x93NUMPY") != 0) throw std::runtime_error("has an entry that is no .npy");
  const int digits = data[6] == 1 ? 2 : 4;
  const std::size_t start = 8 + static_cast<std::size_t>(digits), size = little(data, 8, digits);
  const std::string header = data.substr(start, size);
  if (header.find("'fortran_order': True") != std::string::npos) throw std::runtime_error("has Fortran's order");
  Array made;
  const std::string descr = field(header, "descr", '\'', '\'');
  if (descr.size() < 3 || descr[0] == '>' || std::string("fiub").find(descr[1]) == std::string::npos)
    throw std::runtime_error("has the element type " + descr + ", which this program does not read");
  made.dtype = descr.substr(1);
  std::size_t count = 1;
  std::string number;
  for (const char letter : field(header, "shape", '(', ')') + ",") {
    if (letter >= '0' && letter <= '9') number += letter;
    if (letter != ',' || number.empty()) continue;
    made.shape.push_back(std::stoll(number));
    count *= static_cast<std::size_t>(made.shape.back());
    number.clear();
  }
  made.bytes.assign(data.begin() + static_cast<std::ptrdiff_t>(std::min(start + size, data.size())), data.end());
  if (made.bytes.size() != count * made.width()) throw std::runtime_error("is cut short");
  return made;
}

}  // namespace detail

// Throws std::runtime_error where the file is missing, damaged, compressed, or holds texts.
inline std::map<std::string, Array> read_npz(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("is missing");
  const std::string data{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const std::size_t end = data.rfind("PK\x05\x06");
  if (end == std::string::npos) throw std::runtime_error("is no .npz");
  std::map<std::string, Array> found;
  std::size_t at = detail::little(data, end + 16, 4);
  for (std::uint64_t left = detail::little(data, end + 10, 2); left > 0; --left) {  // the central directory
    if (detail::little(data, at, 4) != 0x02014b50) throw std::runtime_error("is no .npz");
    if (detail::little(data, at + 10, 2) != 0) throw std::runtime_error("is compressed; write it with numpy.savez");
    const std::size_t size = detail::little(data, at + 24, 4), local = detail::little(data, at + 42, 4);
    const std::size_t name_size = detail::little(data, at + 28, 2);
    const std::string name = data.substr(at + 46, name_size);
    const std::size_t start = local + 30 + detail::little(data, local + 26, 2) + detail::little(data, local + 28, 2);
    if (start + size > data.size() || name.size() < 4) throw std::runtime_error("is cut short");
    found[name.substr(0, name.size() - 4)] = detail::read_npy(data.substr(start, size));
    at += 46 + name_size + detail::little(data, at + 30, 2) + detail::little(data, at + 32, 2);
  }
  return found;
}

namespace detail {

inline void put(std::string& data, std::uint64_t value, int size) {
  for (int i = 0; i < size; ++i) data += static_cast<char>(value >> 8 * i & 255);
}

inline std::uint32_t crc32(const std::string& data) {
  std::uint32_t sum = ~0u;
  for (const char letter : data) {
    sum ^= static_cast<unsigned char>(letter);
    for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320u : 0u);
  }
  return ~sum;
}

inline std::string npy(const Array& array) {
  std::string shape, data;
  for (const std::int64_t size : array.shape) shape += std::to_string(size) + ",";
  const std::string order = array.width() == 1 ? "|" : "<";
  std::string header = "{'descr': '" + order + array.dtype + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.resize((10 + header.size()) / 64 * 64 + 64 - 11, ' ');
  data = std::string("\x93NUMPY\x01\x00", 8);
  put(data, header.size() + 1, 2);
  return data + header + "\n" + std::string(array.bytes.begin(), array.bytes.end());
}

}  // namespace detail

// Throws std::runtime_error where the file can't be written whole.
inline void write_npz(const std::string& path, const std::map<std::string, Array>& arrays) {
  std::string data, directory;
  for (const auto& [name, array] : arrays) {
    const std::string content = detail::npy(array), file = name + ".npy";
    const std::size_t at = data.size();
    std::string entry;  // what the local header and the directory share
    for (const int word : {20, 0, 0, 0, 33}) detail::put(entry, static_cast<std::uint64_t>(word), 2);  // 1980-01-01
    for (const std::uint64_t word : {std::uint64_t{detail::crc32(content)}, content.size(), content.size()})
      detail::put(entry, word, 4);
    detail::put(entry, file.size(), 2);
    detail::put(entry, 0, 2);
    data += "PK\x03\x04" + entry + file + content;
    directory += "PK\x01\x02";
    detail::put(directory, 20, 2);
    directory += entry;
    for (const int size : {2, 2, 2, 4}) detail::put(directory, 0, size);
    detail::put(directory, at, 4);
    directory += file;
  }
  const std::size_t start = data.size();
  data += directory + "PK\x05\x06";
  detail::put(data, 0, 4);
  for (int twice = 0; twice < 2; ++twice) detail::put(data, arrays.size(), 2);
  detail::put(data, directory.size(), 4);
  detail::put(data, start, 4);
  detail::put(data, 0, 2);
  std::ofstream file(path, std::ios::binary);
  file.write(data.data(), static_cast<std::streamsize>(data.size()));
  file.close();
  if (!file) throw std::runtime_error(path + " can't be written");
}

}  // namespace qcompile

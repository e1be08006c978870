// golden/ replayed: outputs against those of the compile, each within its tolerance, as run_ort.py --check does.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>

#include "bundle.hpp"
#include "elements.hpp"

namespace qcompile {

namespace detail {

inline bool judge(const Array& got, const Array& want, const Json& bound, std::string& words) {
  char text[120];
  if (got.shape != want.shape || got.dtype != want.dtype) {
    words = "another shape or element type";
    return false;
  }
  std::size_t equal = 0;
  double largest = 0;
  for (std::size_t i = 0; i < want.count(); ++i) {
    const double a = element(got, i), b = element(want, i);
    const bool same = a == b || (std::isnan(a) && std::isnan(b));
    equal += same;
    if (!same) largest = std::isnan(a - b) ? HUGE_VAL : std::fmax(largest, std::fabs(a - b));
  }
  if (bound.has("agreement")) {
    const double share = want.count() ? static_cast<double>(equal) / static_cast<double>(want.count()) : 1;
    std::snprintf(text, sizeof text, "%.2f%% equal, bound %.0f%%", 100 * share, 100 * bound.at("agreement").number);
    words = text;
    return share >= bound.at("agreement").number;
  }
  std::snprintf(text, sizeof text, "largest difference %.3g, bound %.3g", largest, bound.at("atol").number);
  words = text;
  return largest <= bound.at("atol").number;
}

}  // namespace detail

// Prints a line for each output of each sample and PASSED or FAILED; the exit status.
inline int replay(const Bundle& bundle, const Run& run) {
  const Json bounds = bundle.tolerances();
  const std::vector<Sample> samples = bundle.golden();
  if (samples.empty()) throw std::runtime_error("the bundle has no golden samples");
  bool passed = true;
  for (std::size_t number = 0; number < samples.size(); ++number) {
    const auto start = std::chrono::steady_clock::now();
    const Arrays outputs = run(samples[number].inputs);
    const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
    for (const auto& [name, want] : samples[number].outputs) {
      std::string words = "is missing";
      const auto got = outputs.find(name);
      const bool fine = got != outputs.end() && detail::judge(got->second, want, bounds.at(name), words);
      passed = passed && fine;
      std::printf("%s sample %zu %s: %s (%.1f ms)\n", fine ? "ok  " : "FAIL", number, name.c_str(), words.c_str(),
                  taken.count());
    }
  }
  std::puts(passed ? "PASSED" : "FAILED");
  return passed ? 0 : 1;
}

// `work` with every error as one line on stderr and exit status 1.
inline int guarded(const char* program, const std::function<int()>& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    const std::string words = error.what();
    std::fprintf(stderr, "%s: %s\n", program, words.substr(0, words.find('\n')).c_str());
    return 1;
  }
}

}  // namespace qcompile

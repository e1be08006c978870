// A reader of JSON documents that fit into memory: what manifest.json and tolerances.json need, nothing more.
#pragma once

#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace qcompile {

struct Json {
  enum class Kind { null, boolean, number, text, array, object };
  Kind kind = Kind::null;
  double number = 0;
  std::string text;
  std::vector<Json> array;
  std::map<std::string, Json> object;

  bool has(const std::string& key) const { return object.count(key) != 0; }

  const Json& at(const std::string& key) const {
    const auto found = object.find(key);
    if (found == object.end()) throw std::runtime_error("has no key '" + key + "'");
    return found->second;
  }

  // Throws std::runtime_error where `source` is no JSON document.
  static Json parse(const std::string& source) {
    Reader reader{source};
    Json value = reader.value(0);
    reader.blanks();
    if (reader.at != source.size()) reader.fail();
    return value;
  }

 private:
  struct Reader {
    const std::string& source;
    std::size_t at = 0;

    [[noreturn]] void fail() const {
      throw std::runtime_error("is damaged (no JSON at byte " + std::to_string(at) + ")");
    }

    char peek() const { return at < source.size() ? source[at] : '\0'; }

    void blanks() {
      while (at < source.size() && std::string(" \t\r\n").find(source[at]) != std::string::npos) ++at;
    }

    bool take(const std::string& word) {
      if (source.compare(at, word.size(), word) != 0) return false;
      at += word.size();
      return true;
    }

    void expect(char wanted) {
      blanks();
      if (peek() != wanted) fail();
      ++at;
    }

    Json value(int depth) {
      if (depth > 100) fail();
      blanks();
      Json made;
      if (peek() == '{') return members(depth);
      if (peek() == '[') return elements(depth);
      if (peek() == '"') {
        made.kind = Kind::text;
        made.text = string();
      } else if (take("true") || take("false")) {
        made.kind = Kind::boolean;
        made.number = source[at - 2] == 'u';  // tr-u-e
      } else if (!take("null")) {
        made.kind = Kind::number;
        char* end = nullptr;
        made.number = std::strtod(source.c_str() + at, &end);
        const std::size_t next = static_cast<std::size_t>(end - source.c_str());
        if (next == at) fail();
        at = next;
      }
      return made;
    }

    Json members(int depth) {
      Json made;
      made.kind = Kind::object;
      expect('{');
      for (blanks(); peek() != '}'; blanks()) {
        if (!made.object.empty()) expect(',');
        blanks();
        const std::string key = string();
        expect(':');
        made.object[key] = value(depth + 1);
      }
      ++at;
      return made;
    }

    Json elements(int depth) {
      Json made;
      made.kind = Kind::array;
      expect('[');
      for (blanks(); peek() != ']'; blanks()) {
        if (!made.array.empty()) expect(',');
        made.array.push_back(value(depth + 1));
      }
      ++at;
      return made;
    }

    std::string string() {
      std::string made;
      if (peek() != '"') fail();
      for (++at; peek() != '"'; ++at) {
        if (at >= source.size()) fail();
        if (peek() != '\\') {
          made += peek();
          continue;
        }
        ++at;
        const std::string from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
        const std::size_t place = from.find(peek());
        if (place != std::string::npos && peek() != '\0') {
          made += to[place];
        } else if (peek() == 'u') {
          append(made, code());
        } else {
          fail();
        }
      }
      ++at;
      return made;
    }

    // The four digits behind \u, and a second half where they are the first of a pair; `at` stays on the last digit.
    unsigned code() {
      const unsigned first = digits();
      if (first < 0xD800 || first > 0xDBFF) return first;
      if (source.compare(at + 1, 2, "\\u") != 0) fail();
      at += 2;
      return 0x10000 + ((first - 0xD800) << 10) + (digits() - 0xDC00);
    }

    unsigned digits() {
      if (at + 4 >= source.size()) fail();
      const std::string word = source.substr(at + 1, 4);
      if (word.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) fail();
      at += 4;
      return static_cast<unsigned>(std::stoul(word, nullptr, 16));
    }

    static void append(std::string& text, unsigned code) {  // UTF-8
      if (code < 0x80) {
        text += static_cast<char>(code);
        return;
      }
      const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
      const unsigned lead[] = {0, 0xC0, 0xE0, 0xF0};
      text += static_cast<char>(lead[more] | (code >> (6 * more)));
      for (int left = more - 1; left >= 0; --left) text += static_cast<char>(0x80 | ((code >> (6 * left)) & 0x3F));
    }
  };
};

}  // namespace qcompile

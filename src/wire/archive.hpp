// Three visitors of the `fields` functions (fields.hpp): Writer makes bytes, Reader makes values of bytes that nobody
// vouches for, Extent adds up how short and how long a message can be. One description of a message serves all three,
// so that they cannot disagree. Pure; any thread.
//
// Bytes: numbers are little-endian; a bool is 0 or 1; an enum is one byte below its count; identities and digests are
// 16 bytes as they are printed; a string is its length (2 bytes) and that much valid text (base/text.hpp); a list is
// the number of its items (2 bytes, of a long list 4) and the items. Nothing is padded or optional, so a value has one
// form only.
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/assert.hpp"
#include "base/ids.hpp"
#include "base/text.hpp"

namespace hawser::wire {

inline constexpr std::size_t id_bytes = 16;
inline constexpr std::size_t length_bytes = 2;       // in front of strings and lists
inline constexpr std::size_t long_length_bytes = 4;  // in front of long lists

template <std::unsigned_integral T>
void store(std::uint8_t* out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

template <std::unsigned_integral T>
T load(const std::uint8_t* bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  return static_cast<T>(value);
}

class Writer {
 public:
  explicit Writer(std::vector<std::uint8_t>& out) : out_(out) {}

  template <std::unsigned_integral T>
  void number(const T& value) {
    out_.resize(out_.size() + sizeof(T));
    store(out_.data() + out_.size() - sizeof(T), value);
  }
  template <typename T>
  void boolean(const T& value) {
    HAWSER_ASSERT(value == T{0} || value == T{1}, "a flag is 0 or 1");
    out_.push_back(static_cast<std::uint8_t>(value));
  }
  template <typename T>
  void choice(const T& value, std::size_t count) {
    HAWSER_ASSERT(static_cast<std::size_t>(value) < count, "an enum holds a value outside its list");
    out_.push_back(static_cast<std::uint8_t>(value));
  }
  // The weight of a contribution: an IEEE double, finite and not negative, or -1 for one that is left out.
  void weight(const double& value) { number(std::bit_cast<std::uint64_t>(value)); }
  // Identities and digests: 128 bits in two members, most significant byte first.
  template <typename T>
  void bits128(const T& value) {
    for (const std::uint64_t half : {value.high, value.low}) {
      for (int shift = 56; shift >= 0; shift -= 8) out_.push_back(static_cast<std::uint8_t>(half >> shift));
    }
  }
  void text(const std::string& value, std::size_t bytes_max) {
    // Receivers close the connection over invalid text, so whatever a caller or the system named is made valid here.
    const std::string clean = clean_text(value, bytes_max);
    number(static_cast<std::uint16_t>(clean.size()));
    out_.insert(out_.end(), clean.begin(), clean.end());
  }
  template <typename T>
  void item(const T& value) {
    fields(*this, value);
  }
  template <typename T>
  void list(const std::vector<T>& values, std::size_t count_max) {
    HAWSER_ASSERT(values.size() <= count_max, "a list is longer than its limit");
    number(static_cast<std::uint16_t>(values.size()));
    for (const T& value : values) item(value);
  }
  template <typename T>
  void long_list(const std::vector<T>& values, std::size_t count_max) {
    HAWSER_ASSERT(values.size() <= count_max, "a list is longer than its limit");
    number(static_cast<std::uint32_t>(values.size()));
    for (const T& value : values) item(value);
  }

 private:
  std::vector<std::uint8_t>& out_;
};

// The fewest and the most bytes a value can take: from its type and limits, not from its contents.
class Extent {
 public:
  template <std::unsigned_integral T>
  void number(const T&) {
    add(sizeof(T), sizeof(T));
  }
  template <typename T>
  void boolean(const T&) {
    add(1, 1);
  }
  template <typename T>
  void choice(const T&, std::size_t) {
    add(1, 1);
  }
  void weight(const double&) { add(sizeof(double), sizeof(double)); }
  template <typename T>
  void bits128(const T&) {
    add(id_bytes, id_bytes);
  }
  void text(const std::string&, std::size_t bytes_max) { add(length_bytes, length_bytes + bytes_max); }
  template <typename T>
  void item(const T& value) {
    fields(*this, value);
  }
  template <typename T>
  void list(const std::vector<T>&, std::size_t count_max);
  template <typename T>
  void long_list(const std::vector<T>&, std::size_t count_max);

  [[nodiscard]] std::size_t least() const { return least_; }
  [[nodiscard]] std::size_t most() const { return most_; }

 private:
  void add(std::size_t least, std::size_t most) {
    least_ += least;
    most_ += most;
  }

  std::size_t least_ = 0;
  std::size_t most_ = 0;
};

template <typename T>
Extent extent_of() {
  Extent extent;
  extent.item(T{});
  return extent;
}

template <typename T>
void Extent::list(const std::vector<T>&, std::size_t count_max) {
  add(length_bytes, length_bytes + count_max * extent_of<T>().most());
}
template <typename T>
void Extent::long_list(const std::vector<T>&, std::size_t count_max) {
  add(long_length_bytes, long_length_bytes + count_max * extent_of<T>().most());
}

// Takes values from bytes until one does not fit; from then on it changes nothing and keeps the first error.
class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  template <std::unsigned_integral T>
  void number(T& value) {
    if (const std::uint8_t* at = take(sizeof(T), "a number is cut off")) value = load<T>(at);
  }
  template <typename T>
  void boolean(T& value) {
    const std::uint8_t* at = take(1, "a flag is cut off");
    if (at == nullptr) return;
    if (*at > 1) return fail("a flag is neither 0 nor 1", 1);
    value = static_cast<T>(*at);
  }
  template <typename T>
  void choice(T& value, std::size_t count) {
    const std::uint8_t* at = take(1, "an enum is cut off");
    if (at == nullptr) return;
    if (*at >= count) return fail("an enum has an unknown value", 1);
    value = static_cast<T>(*at);
  }
  void weight(double& value) {
    std::uint64_t bits = 0;
    number(bits);
    if (!ok()) return;
    const auto given = std::bit_cast<double>(bits);
    if (!std::isfinite(given) || (given < 0 && given != -1.0)) {
      return fail("a weight is not a finite number >= 0", sizeof(double));
    }
    value = given;
  }
  template <typename T>
  void bits128(T& value) {
    const std::uint8_t* at = take(id_bytes, "128 bits are cut off");
    if (at == nullptr) return;
    value.high = value.low = 0;
    for (std::size_t i = 0; i < 8; ++i) value.high = value.high << 8 | at[i];
    for (std::size_t i = 8; i < 16; ++i) value.low = value.low << 8 | at[i];
  }
  void text(std::string& value, std::size_t bytes_max) {
    std::uint16_t size = 0;
    number(size);
    if (!ok()) return;
    if (size > bytes_max) return fail("a string is longer than its limit", length_bytes);
    const std::uint8_t* at = take(size, "a string is cut off");
    if (at == nullptr) return;
    const std::string_view view(reinterpret_cast<const char*>(at), size);
    if (!valid_text(view)) return fail("a string is not UTF-8 without control characters", size);
    value = view;
  }
  template <typename T>
  void item(T& value) {
    fields(*this, value);
  }
  template <typename T>
  void list(std::vector<T>& values, std::size_t count_max) {
    list_of<std::uint16_t>(values, count_max);
  }
  template <typename T>
  void long_list(std::vector<T>& values, std::size_t count_max) {
    list_of<std::uint32_t>(values, count_max);
  }
  // After the last field.
  void finish() {
    if (ok() && at_ != bytes_.size()) fail("bytes follow the last field", 0);
  }

  [[nodiscard]] bool ok() const { return reason_ == nullptr; }
  [[nodiscard]] const char* reason() const { return reason_; }      // null while ok
  [[nodiscard]] std::size_t error_at() const { return error_at_; }  // offset of the field that does not fit

 private:
  template <typename Count, typename T>
  void list_of(std::vector<T>& values, std::size_t count_max) {
    Count count = 0;
    number(count);
    if (!ok()) return;
    if (count > count_max) return fail("a list is longer than its limit", sizeof(Count));
    // Before anything is reserved: so many items need at least so many bytes.
    if (count * extent_of<T>().least() > bytes_.size() - at_) return fail("a list is cut off", sizeof(Count));
    values.clear();
    values.reserve(count);
    for (std::size_t i = 0; i < count && ok(); ++i) item(values.emplace_back());
  }
  const std::uint8_t* take(std::size_t size, const char* reason_if_short) {
    if (!ok()) return nullptr;
    if (size > bytes_.size() - at_) {
      fail(reason_if_short, 0);
      return nullptr;
    }
    const std::uint8_t* at = bytes_.data() + at_;
    at_ += size;
    return at == nullptr ? &nothing : at;  // no bytes of no bytes is not a failure
  }
  void fail(const char* reason, std::size_t bytes_back) {
    reason_ = reason;
    error_at_ = at_ - bytes_back;
  }

  static constexpr std::uint8_t nothing = 0;
  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;  // 0 <= at_ <= bytes_.size()
  const char* reason_ = nullptr;
  std::size_t error_at_ = 0;
};

}  // namespace hawser::wire

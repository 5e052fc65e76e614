// How failures travel inside the library: a code of the public list plus a sentence, as values. No exception crosses a
// layer.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "hawser/hawser_errors.h"

namespace hawser {

enum class Code : int {
#define HAWSER_CODE_(name, value, category, sentence) name = value,
  HAWSER_STATUS_LIST(HAWSER_CODE_)
#undef HAWSER_CODE_
};

const char* code_name(Code code);      // "PEER_LOST"
const char* code_sentence(Code code);  // the general sentence of hawser_errors.h

// A code and what to say about it: who, where, what to change. An OK status has no text.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string text) : code_(code), text_(std::move(text)) {}

  [[nodiscard]] bool ok() const { return code_ == Code::OK; }
  [[nodiscard]] Code code() const { return code_; }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  Code code_ = Code::OK;
  std::string text_;
};

// A value or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}         // NOLINT(google-explicit-constructor): reads as the value
  Result(Status status) : state_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  [[nodiscard]] T& value() { return std::get<0>(state_); }
  [[nodiscard]] const T& value() const { return std::get<0>(state_); }
  [[nodiscard]] Status status() const { return ok() ? Status{} : std::get<1>(state_); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace hawser

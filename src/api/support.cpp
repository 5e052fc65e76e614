// Version, sentences and what the calls share; see support.hpp.
#include "api/support.hpp"

#include <atomic>

#include "api/handles.hpp"
#include "base/types.hpp"
#include "runtime/build_info.hpp"

namespace hawser::api {
namespace {

std::string& last_error() {
  thread_local std::string text;
  return text;
}

}  // namespace

std::uintptr_t next_handle() {
  // Odd numbers in a range where no object lives, so that they cannot be taken for pointers by accident.
  static std::atomic<std::uintptr_t> next{0x1001};
  return next.fetch_add(2);
}

hawser_status_t report(const char* call, const Status& status) {
  try {
    if (status.code() != Code::OK && status.code() != Code::PENDING) {
      last_error() = fmt::format("{}: {}: {}", call, code_name(status.code()),
                                 status.text().empty() ? code_sentence(status.code()) : status.text());
    }
  } catch (...) {
    last_error().clear();  // no memory for the sentence; the code is what counts
  }
  return static_cast<hawser_status_t>(status.code());
}

}  // namespace hawser::api

using namespace hawser;  // NOLINT(google-build-using-namespace): the C functions stand outside of it

extern "C" {

uint32_t hawser_version(void) { return HAWSER_VERSION_NUMBER; }

const char* hawser_status_name(hawser_status_t status) { return code_name(static_cast<Code>(status)); }

const char* hawser_status_string(hawser_status_t status) { return code_sentence(static_cast<Code>(status)); }

hawser_category_t hawser_status_category(hawser_status_t status) {
  switch (static_cast<Code>(status)) {
#define HAWSER_CASE_(name, value, category, sentence) \
  case Code::name:                                    \
    return HAWSER_CATEGORY_##category;
    HAWSER_STATUS_LIST(HAWSER_CASE_)
#undef HAWSER_CASE_
  }
  return HAWSER_CATEGORY_INTERNAL;
}

const char* hawser_last_error(void) { return api::last_error().c_str(); }

size_t hawser_dtype_size(hawser_dtype_t dtype) {
  const auto value = static_cast<unsigned>(dtype);
  return value < dtype_count ? dtype_size(static_cast<Dtype>(value)) : 0;
}

const char* hawser_build_info(void) {
  try {
    static const std::string info = runtime::build_info();
    return info.c_str();
  } catch (const std::bad_alloc&) {
    return "{}";  // the next call tries again
  }
}

}  // extern "C"

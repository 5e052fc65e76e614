// Compression and residuals of the C API: checked and translated.
#include "api/compression.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "api/handles.hpp"
#include "api/support.hpp"
#include "runtime/residual.hpp"

namespace hawser::api {
namespace {

Registry<runtime::Residual, hawser_residual_t>& residuals() {
  static auto* registry = new Registry<runtime::Residual, hawser_residual_t>();
  return *registry;
}

Result<std::shared_ptr<runtime::Residual>> find_residual(const hawser_residual_t* handle) {
  auto found = residuals().find(handle);
  if (!found) return Status(Code::INVALID_HANDLE, "the residual handle is NULL or was destroyed");
  return found;
}

}  // namespace

Status read_compression(const hawser_compression_t* given, runtime::Coding& coding) {
  hawser_compression_t asked;
  if (Status status = read_sized(given, "hawser_compression_t", asked); !status.ok()) return status;
  if (asked.reserved != 0) return {Code::UNSUPPORTED, "hawser_compression_t.reserved is not 0"};
  auto format = codec::make_format(asked.codec, asked.block, asked.rounding);
  if (!format.ok()) return format.status();
  if (!(asked.residual_decay >= 0 && asked.residual_decay <= 1)) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("compression.residual_decay {} is not within 0..1", asked.residual_decay)};
  }
  coding.format = format.value();
  coding.seed = asked.seed;
  coding.decay = asked.residual_decay == 0 ? 1.0F : static_cast<float>(asked.residual_decay);
  if (asked.residual == nullptr) return {};
  if (coding.format.codec == codec::Codec::none) {
    return {Code::INVALID_ARGUMENT, "a residual without a codec: nothing is left out that it could keep"};
  }
  auto residual = find_residual(asked.residual);
  if (!residual.ok()) return residual.status();
  coding.residual = std::move(residual.value());
  return {};
}

}  // namespace hawser::api

using namespace hawser;       // NOLINT(google-build-using-namespace): the C functions stand outside of it
using namespace hawser::api;  // NOLINT(google-build-using-namespace)

extern "C" {

hawser_status_t hawser_residual_create(size_t count, hawser_residual_t** residual_out) {
  return guarded("hawser_residual_create", [&]() -> Status {
    if (residual_out == nullptr) return {Code::INVALID_ARGUMENT, "residual_out is NULL"};
    if (count > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / sizeof(float)) {
      return {Code::INVALID_ARGUMENT, fmt::format("count {} of f32 is more than memory can hold", count)};
    }
    *residual_out = residuals().add(std::make_shared<runtime::Residual>(count));
    return {};
  });
}

hawser_status_t hawser_residual_read(hawser_residual_t* residual, float* values_out, size_t count) {
  return guarded("hawser_residual_read", [&]() -> Status {
    auto found = find_residual(residual);
    if (!found.ok()) return found.status();
    if (values_out == nullptr && count != 0) return {Code::INVALID_ARGUMENT, "values_out is NULL"};
    return found.value()->read(values_out, count);
  });
}

hawser_status_t hawser_residual_write(hawser_residual_t* residual, const float* values, size_t count) {
  return guarded("hawser_residual_write", [&]() -> Status {
    auto found = find_residual(residual);
    if (!found.ok()) return found.status();
    if (values == nullptr && count != 0) return {Code::INVALID_ARGUMENT, "values is NULL"};
    return found.value()->write(values, count);
  });
}

hawser_status_t hawser_residual_destroy(hawser_residual_t* residual) {
  return guarded("hawser_residual_destroy", [&]() -> Status {
    if (!residuals().remove(residual)) return {Code::INVALID_HANDLE, "the residual handle is NULL or was destroyed"};
    return {};
  });
}

size_t hawser_compressed_bytes(const hawser_compression_t* compression, size_t count) {
  try {
    hawser_compression_t asked;
    if (compression == nullptr || !read_sized(compression, "hawser_compression_t", asked).ok()) return 0;
    const auto format = codec::make_format(asked.codec, asked.block, asked.rounding);
    return format.ok() ? codec::encoded_bytes(format.value(), count) : 0;
  } catch (const std::bad_alloc&) {  // for the sentence about a setting that is not valid
    return 0;
  }
}

}  // extern "C"

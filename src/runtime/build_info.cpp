// What this library is and what it found; see the header.
#include "runtime/build_info.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <uv.h>

#include <thread>

#include "hawser/hawser_version.h"
#include "kernels/kernels.hpp"
#include "wire/messages.hpp"

namespace hawser::runtime {

std::string build_info() {
  utsname system{};
  uname(&system);
#ifdef NDEBUG
  const char* build = "release";
#else
  const char* build = "debug";
#endif
  return fmt::format(
      R"({{"version":"{}","wire_version":{},"compiler":"{}","build":"{}","cpu_kernels":"{}","cpu_kernels_best":"{}",)"
      R"("cores":{},"libuv":"{}","kernel":"{} {}","transports":["tcp","shm"],"tls":false,"cuda":false,"nccl":false}})",
      HAWSER_VERSION_STRING, wire::version, __VERSION__, build, kernels::variant_name(kernels::active_variant()),
      kernels::variant_name(kernels::best_variant()), std::thread::hardware_concurrency(), uv_version_string(),
      system.sysname, system.release);
}

}  // namespace hawser::runtime

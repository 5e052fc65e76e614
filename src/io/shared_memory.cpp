// memfd_create, seals and mmap; see the header.
#include "io/shared_memory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <uv.h>

#include <cerrno>
#include <utility>

namespace hawser::io {
namespace {

constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) munmap(data_, size_);
}

Result<SharedMemory> SharedMemory::create(std::size_t bytes) {
  SharedMemory memory;
  const auto failed = [](const char* what) {
    return Status(Code::RESOURCE, fmt::format("no memory to be shared: {}: {}", what, uv_strerror(-errno)));
  };
  memory.fd_.reset(memfd_create("hawser", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.fd_.valid()) return failed("memfd_create");
  if (ftruncate(memory.fd_.get(), static_cast<off_t>(bytes)) != 0) return failed("ftruncate");
  if (fcntl(memory.fd_.get(), F_ADD_SEALS, seals) != 0) return failed("F_ADD_SEALS");
  if (Status status = memory.map(bytes); !status.ok()) return status;
  return memory;
}

Result<SharedMemory> SharedMemory::open(std::int64_t process, std::int64_t descriptor, std::size_t bytes) {
  SharedMemory memory;
  const std::string path = fmt::format("/proc/{}/fd/{}", process, descriptor);
  memory.fd_.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!memory.fd_.valid()) return Status(Code::UNSUPPORTED, fmt::format("{}: {}", path, uv_strerror(-errno)));
  // Only memory has seals. Without them its owner could cut it off under our hands.
  const int has = fcntl(memory.fd_.get(), F_GET_SEALS);
  struct stat info {};
  if (has < 0 || (has & seals) != seals || fstat(memory.fd_.get(), &info) != 0 ||
      info.st_size != static_cast<off_t>(bytes)) {
    return Status(Code::UNSUPPORTED, path + " is not what the other end has told of");
  }
  if (Status status = memory.map(bytes); !status.ok()) return status;
  memory.hide();
  return memory;
}

Status SharedMemory::map(std::size_t bytes) {
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (data == MAP_FAILED) return {Code::RESOURCE, fmt::format("cannot map shared memory: {}", uv_strerror(-errno))};
  data_ = static_cast<std::byte*>(data);
  size_ = bytes;
  return {};
}

}  // namespace hawser::io

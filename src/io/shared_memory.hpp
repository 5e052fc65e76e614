// Memory that two processes of one host share: an anonymous file (memfd) of a fixed size, which the other process opens
// by way of /proc, if the kernel lets it look into this one. Sealed against changes of its size, so that touching it
// can never fail. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.hpp"
#include "io/unique_fd.hpp"

namespace hawser::io {

class SharedMemory {
 public:
  SharedMemory() = default;
  SharedMemory(SharedMemory&& other) noexcept { *this = std::move(other); }
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();

  // Zeros. RESOURCE.
  static Result<SharedMemory> create(std::size_t bytes);
  // What another process has created, under these numbers, until it calls hide. UNSUPPORTED with the reason: this is
  // not its host, or it may not be looked into, or that is no such memory.
  static Result<SharedMemory> open(std::int64_t process, std::int64_t descriptor, std::size_t bytes);

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] int descriptor() const { return fd_.get(); }
  // Nobody else can open it any more; whoever has it keeps it.
  void hide() { fd_.reset(); }

 private:
  Status map(std::size_t bytes);

  UniqueFd fd_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace hawser::io
